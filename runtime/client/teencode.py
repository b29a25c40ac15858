"""Short forms of chat ("ko", "dc", "vk") -> words."""

from __future__ import annotations

import re

from binhdan.runtime.client.masked_restore import strip_marks

# Only short forms with one usual meaning. A number, a unit or a word of the language is none.
_FORMS = """
    k=không ko=không kg=không hk=không hông=không khum=không hem=không
    dc=được đc=được dk=được đk=được j=gì z=vậy v=vậy vs=với r=rồi rùi=rồi
    vk=vợ ck=chồng mik=mình mk=mình mn=mọi_người ng=người ngta=người_ta bn=bạn b=bạn
    bt=biết bít=biết bit=biết bjt=biết ntn=như_thế_nào nt=nhắn_tin ib=nhắn_tin
    sdt=số_điện_thoại sđt=số_điện_thoại
    hn=hôm_nay hnay=hôm_nay hqua=hôm_qua bh=bây_giờ bgio=bây_giờ bg=bây_giờ
    lm=làm lun=luôn wá=quá wa=quá qá=quá iu=yêu thik=thích thjk=thích thix=thích
    ny=người_yêu gđ=gia_đình sn=sinh_nhật cx=cũng cug=cũng nv=như_vậy ak=à ah=à uk=ừ uhm=ừ
    trc=trước ms=mới đt=điện_thoại dt=điện_thoại nch=nói_chuyện nc=nói_chuyện cs=có
    tk=tài_khoản qtrong=quan_trọng tgian=thời_gian đag=đang dag=đang nhju=nhiều nhìu=nhiều
    onl=trực_tuyến mún=muốn mun=muốn bùn=buồn pải=phải fải=phải hok=không hông=không
"""
_TABLE = {short: words.replace("_", " ") for short, words in (pair.split("=") for pair in _FORMS.split())}
# Not after or before a digit (5k, 10 k), a letter or a sign that makes it a part of something else.
_WORD = re.compile(r"(?<![\w@#/\\.:'’-])(?<!\d )[^\W\d_]{1,6}(?![\w@/\\:'’-])(?!\.\w)")


def expand(text: str) -> str:
    """The text with its short forms written out: with marks if the text has marks, else without."""
    marked = strip_marks(text) != text

    def word(found: re.Match[str]) -> str:
        given = found[0]
        full = _TABLE.get(given.lower())
        if full is None or (given.isupper() and len(given) > 1):  # an abbreviation: ĐT, TK
            return given
        full = full if marked else strip_marks(full)
        return full[0].upper() + full[1:] if given[0].isupper() else full

    return _WORD.sub(word, text)
