"""runtime/client/teencode.py: short forms of chat."""

from __future__ import annotations

import pytest

from binhdan.runtime.client.teencode import expand


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("ko dc j", "khong duoc gi"),
        ("đi vs mik ko", "đi với mình không"),
        ("Vk oi", "Vo oi"),
        ("5k, 10 k, #ko, @vk, ko.vn, a/k, TK, ko-dau", "5k, 10 k, #ko, @vk, ko.vn, a/k, TK, ko-dau"),
        ("không có", "không có"),
        ("", ""),
    ],
)
def test_expand(given: str, expected: str) -> None:
    assert expand(given) == expected
