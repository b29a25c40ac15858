"""The chat page in a browser, with the real server and the embedded model.

Tests that need a slow or specific answer use a scripted server.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install 'binhdan[browser]'")

from browser import CONTRAST, ask, chromium, open_page, wait_for_answer
from playwright.sync_api import expect
from scripted_chat import Reply, ScriptedChat, chunk, complete
from serving import ANSWER, QUESTION, serving
from uvicorn_thread import running

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow

STORY = "Kể chuyện đi"  # answered by long_answer()
GREETING = "Xin chào!"
LETTERS = "ăâđêôơưáàảãạắằẳẵặấầẩẫậéèẻẽẹếềểễệíìỉĩịóòỏõọốồổỗộớờởỡợúùủũụứừửữựýỳỷỹỵ"
KEY = "sk-chia-khoa-cua-ba"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as url:
        yield url


@pytest.fixture
def chat() -> ScriptedChat:
    return ScriptedChat()


@pytest.fixture
def scripted_url(chat: ScriptedChat) -> Iterator[str]:
    with running(chat.app) as url:
        yield url


def long_answer() -> Reply:
    """Returns an answer of ten words per second that takes minutes."""
    return Reply([step for number in range(2000) for step in (chunk(f"từ {number}, "), 0.1)])


def test_ask_stream_and_reload(browser: Browser, url: str, tmp_path: Path) -> None:
    with open_page(browser, url) as page:
        expect(page.locator("#welcome h2")).to_have_text("Xin chào! Bạn muốn hỏi gì?")
        expect(page.locator("#question")).to_be_focused()
        page.screenshot(path=tmp_path / "welcome.png")
        ask(page, QUESTION)
        expect(page.locator(".answer > .text")).to_have_text(ANSWER)
        expect(page.locator(".stats summary")).to_have_text(
            re.compile(r"^\d+\stoken · [\d,.]+\stoken/giây · [\d,.]+\sđồng$")
        )
        expect(page.locator("#question")).to_have_value("")
        expect(page.locator("#question")).to_be_focused()
        ask(page, GREETING)
        wait_for_answer(page)
        page.locator(".answer .stats summary").last.click()
        expect(page.locator(".answer:last-child dd").last).to_be_in_viewport()
        rows = page.locator(".answer:last-child dt").all_inner_texts()
        assert rows[:5] == [
            "Mô hình",
            "Câu hỏi và lịch sử",
            "Chờ đến lượt",
            "Đọc câu hỏi",
            "Viết câu trả lời",
        ]
        page.screenshot(path=tmp_path / "chat.png")
        before = page.locator(".message > .text").all_inner_texts()
        page.reload()
        expect(page.locator(".message")).to_have_count(4)
        assert page.locator(".message > .text").all_inner_texts() == before
        expect(page.locator("#conversations .open")).to_have_text([QUESTION])
        expect(page).to_have_title(f"{QUESTION} – Bình dân")

        page.click("#new-chat")
        expect(page.locator("#welcome")).to_be_visible()
        page.click("#suggestions button >> nth=0")
        wait_for_answer(page)
        expect(page.locator("#conversations .open")).to_have_count(2)
        page.click(f"#conversations .open:has-text('{QUESTION}')")
        assert page.locator(".message > .text").all_inner_texts() == before


def test_stop_an_answer(browser: Browser, chat: ScriptedChat, scripted_url: str) -> None:
    chat.replies += [long_answer(), long_answer(), complete("Chào bạn.")]
    with open_page(browser, scripted_url) as page:
        for method in ("Escape", "button"):
            page.click("#new-chat")
            ask(page, STORY)
            answer = page.locator(".answer > .text")
            expect(answer).to_contain_text("từ 3,")
            expect(page.locator("#send")).to_be_hidden()
            page.press("#question", "Escape") if method == "Escape" else page.click("#stop")
            expect(page.locator(".answer .note")).to_have_text("Bạn đã dừng câu trả lời ở đây.")
            expect(page.locator("#send")).to_be_visible()
            stopped = answer.inner_text()
            page.wait_for_timeout(300)
            assert answer.inner_text() == stopped
        # The stopped answer is kept, and the conversation continues.
        page.reload()
        expect(page.locator(".answer .note")).to_be_visible()
        ask(page, GREETING)
        wait_for_answer(page)
        expect(page.locator(".message")).to_have_count(4)


def test_reload_during_an_answer(browser: Browser, chat: ScriptedChat, scripted_url: str) -> None:
    chat.replies.append(long_answer())
    with open_page(browser, scripted_url) as page:
        ask(page, STORY)
        expect(page.locator(".answer > .text")).to_contain_text("từ 3,")
        page.reload()
        expect(page.locator(".answer > .text")).to_contain_text("từ 3,")
        expect(page.locator("#send")).to_be_visible()


def test_two_conversations_at_once(browser: Browser, chat: ScriptedChat, scripted_url: str) -> None:
    chat.replies += [long_answer(), complete(ANSWER)]
    with open_page(browser, scripted_url) as page:
        ask(page, STORY)
        expect(page.locator(".answer > .text")).to_contain_text("từ 3,")
        page.click("#new-chat")
        ask(page, QUESTION)
        expect(page.locator(".answer > .text")).to_have_text(ANSWER)
        page.click(f"#conversations .open:has-text('{STORY}')")
        expect(page.locator("#stop")).to_be_visible()
        length = len(page.locator(".answer > .text").inner_text())
        expect(page.locator(".answer > .text")).to_have_text(re.compile(f".{{{length + 5}}}", re.DOTALL))
        page.click("#stop")
        wait_for_answer(page)


def test_edit_a_question_and_regenerate(browser: Browser, url: str) -> None:
    with open_page(browser, url) as page:
        ask(page, GREETING)
        wait_for_answer(page)
        page.click(".question .edit")
        expect(page.locator("#question")).to_have_value(GREETING)
        expect(page.locator("#editing")).to_be_visible()
        page.press("#question", "Escape")
        expect(page.locator("#editing")).to_be_hidden()
        expect(page.locator("#question")).to_have_value("")
        page.click(".question .edit")
        ask(page, QUESTION)
        expect(page.locator(".answer > .text")).to_have_text(ANSWER)
        expect(page.locator(".question .text")).to_have_text([QUESTION])
        expect(page.locator("#conversations .open")).to_have_text([QUESTION])
        branches = page.locator(".question .branches")
        expect(branches.locator("span")).to_have_text("2/2")
        page.click(".question [aria-label='Bản trước']")
        expect(page.locator(".question .text")).to_have_text([GREETING])
        page.reload()
        expect(branches.locator("span")).to_have_text("1/2")
        page.click(".question [aria-label='Bản sau']")
        expect(page.locator(".answer > .text")).to_have_text(ANSWER)
        with page.expect_request("**/v1/chat/completions") as request:
            page.click(".again")
        assert request.value.post_data_json["temperature"] > 0, "greedy decoding would repeat the answer"
        assert len(request.value.post_data_json["messages"]) == 1
        wait_for_answer(page)
        expect(page.locator(".message")).to_have_count(2)
        expect(page.locator(".answer .branches span")).to_have_text("2/2")
        page.click(".answer [aria-label='Bản trước']")
        expect(page.locator(".answer > .text")).to_have_text(ANSWER)


def test_settings_are_sent_and_saved(browser: Browser, url: str) -> None:
    with open_page(browser, url) as page:
        page.click("#open-settings")
        page.fill("#system", "Trả lời thật ngắn.")
        page.fill("#temperature", "0.3")
        page.fill("#max-tokens", "3")
        page.keyboard.press("Escape")
        for _ in range(2):
            with page.expect_request("**/v1/chat/completions") as request:
                ask(page, GREETING)
            body = request.value.post_data_json
            assert body["messages"][0] == {"role": "system", "content": "Trả lời thật ngắn."}
            assert (body["temperature"], body["max_tokens"]) == (0.3, 3)
            assert body["stream_options"] == {"include_usage": True}
            expect(page.locator(".answer:last-child .note")).to_contain_text("đã hết độ dài")
            page.reload()


def test_api_key(browser: Browser, tmp_path: Path) -> None:
    with serving(keys={"ba": {"key": KEY}}) as url:
        with open_page(browser, url, errors=["401"]) as page:
            dialog = page.locator("#key-dialog")
            expect(dialog).to_be_visible()
            expect(page.locator("#key")).to_be_focused()
            expect(page.locator("#key-why")).to_have_text("Máy chủ này cần khoá API.")
            page.screenshot(path=tmp_path / "key.png")
            page.fill("#key", "khoá có dấu")
            page.press("#key", "Enter")
            expect(page.locator("#key-wrong")).to_contain_text("không dấu")
            page.fill("#key", "sk-sai")
            page.press("#key", "Enter")
            expect(page.locator("#key-why")).to_have_text("Máy chủ không nhận khoá API này.")
            page.keyboard.press("Escape")
            ask(page, QUESTION)
            expect(dialog).to_be_visible()
            page.fill("#key", KEY)
            page.press("#key", "Enter")
            expect(page.locator(".answer > .text")).to_have_text(ANSWER)  # the page repeats the request
            assert page.evaluate("sessionStorage['binhdan.key']") == KEY
            assert KEY not in page.evaluate("JSON.stringify(localStorage)")
            assert KEY not in page.content()
            page.reload()
            expect(page.locator("#model option")).to_have_count(1)
            expect(dialog).to_be_hidden()

            page.click("#open-settings")
            expect(page.locator("#key-state")).to_contain_text("cho đến khi đóng")
            page.click("#enter-key")
            page.fill("#key", KEY)
            page.check("#remember-key")
            page.press("#key", "Enter")
            assert page.evaluate("localStorage['binhdan.key']") == KEY
            assert page.evaluate("sessionStorage['binhdan.key']") is None
            page.click("#forget-key")
            assert page.evaluate("localStorage['binhdan.key'] ?? null") is None


@pytest.mark.parametrize("width", [320, 390])
def test_phone_layout(
    browser: Browser, chat: ScriptedChat, scripted_url: str, tmp_path: Path, width: int
) -> None:
    phone = {"viewport": {"width": width, "height": 640}, "has_touch": True, "is_mobile": True}
    word = "Donaudampfschifffahrtsgesellschaft" * 6
    chat.replies += [complete(word), complete(ANSWER)]
    with open_page(browser, scripted_url, **phone) as page:

        def fits() -> None:
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate("document.querySelector('#main').scrollWidth") <= width

        fits()
        page.screenshot(path=tmp_path / f"phone-{width}-welcome.png")
        ask(page, word)
        wait_for_answer(page)
        ask(page, QUESTION)
        wait_for_answer(page)
        fits()
        page.screenshot(path=tmp_path / f"phone-{width}-chat.png")
        sidebar = page.locator("#sidebar")
        expect(sidebar).to_be_hidden()
        page.tap("#open-sidebar")
        expect(sidebar).to_be_visible()
        expect(page.locator("#close-sidebar")).to_be_focused()
        page.wait_for_timeout(300)
        page.screenshot(path=tmp_path / f"phone-{width}-list.png")
        fits()
        page.keyboard.press("Escape")
        expect(sidebar).to_be_hidden()
        expect(page.locator("#open-sidebar")).to_be_focused()
        page.tap("#open-settings")
        page.screenshot(path=tmp_path / f"phone-{width}-settings.png")
        assert page.evaluate("document.querySelector('#settings').scrollWidth") <= width
        small = page.evaluate(
            """() => [...document.querySelectorAll('button, select, input[type=number], textarea')]
            .filter((e) => e.checkVisibility() && e.getBoundingClientRect().height < 31)
            .map((e) => e.outerHTML.slice(0, 80))"""
        )
        assert small == [], "controls are too small for touch"


def test_keyboard_only(browser: Browser, url: str) -> None:
    with open_page(browser, url) as page:
        focused = "document.activeElement.id || document.activeElement.className || 'nothing'"
        order = []
        while (not order or order[-1] != "skip") and len(order) < 30:
            page.keyboard.press("Shift+Tab")
            order.append(page.evaluate(focused))
        assert order[-3:] == ["theme", "language", "new-chat", "skip"][-3:], order
        page.keyboard.press("Enter")
        expect(page.locator("#question")).to_be_focused()
        page.keyboard.type("Xin")
        page.keyboard.press("Shift+Enter")
        page.keyboard.type("chào")
        expect(page.locator("#question")).to_have_value("Xin\nchào")
        page.keyboard.press("Enter")
        wait_for_answer(page)
        expect(page.locator(".question .text")).to_have_text("Xin\nchào")

        reached = set()
        for _ in range(40):
            page.keyboard.press("Tab")
            reached.add(page.evaluate(focused))
            ring = page.evaluate(
                """() => { const box = document.activeElement.closest('.box') ?? document.activeElement;
                return box === document.body || getComputedStyle(box).outlineStyle !== 'none'; }"""
            )
            assert ring, "the focused element has no visible outline"
        expected = {"new-chat", "open", "icon rename", "icon delete", "language", "theme", "model"}
        expected |= {"open-settings", "main", "edit", "copy", "again", "attach", "question", "send"}
        assert expected <= reached

        page.focus("#open-settings")
        page.keyboard.press("Enter")
        expect(page.locator("#settings")).to_be_visible()
        for _ in range(30):
            page.keyboard.press("Tab")
            assert page.evaluate(
                "document.activeElement === document.body || !!document.activeElement.closest('dialog')"
            ), "the focus left the dialog"
        page.keyboard.press("Escape")
        expect(page.locator("#settings")).to_be_hidden()
        expect(page.locator("#open-settings")).to_be_focused()


def test_themes(browser: Browser, url: str, tmp_path: Path) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    with open_page(browser, url) as page:
        light = page.evaluate(background)
        page.emulate_media(color_scheme="dark")
        dark = page.evaluate(background)
        assert dark != light
        page.click("#theme")  # overrides the system's theme
        assert page.evaluate(background) == light
        page.reload()
        assert page.evaluate(background) == light
        page.click("#theme")
        page.emulate_media(color_scheme="light")
        assert page.evaluate(background) == dark
        ask(page, QUESTION)
        wait_for_answer(page)
        for theme in ("dark", "light"):
            page.click("#open-settings")
            page.check(f"[name=theme][value={theme}]")
            page.screenshot(path=tmp_path / f"settings-{theme}.png")
            assert page.evaluate(CONTRAST) == []
            page.keyboard.press("Escape")
            page.screenshot(path=tmp_path / f"{theme}.png")
            assert page.evaluate(CONTRAST) == []


def test_english(browser: Browser, url: str, tmp_path: Path) -> None:
    with open_page(browser, url) as page:
        assert page.evaluate("document.documentElement.lang") == "vi"
        ask(page, GREETING)
        wait_for_answer(page)
        expect(page.locator("#language")).to_have_text("English")
        page.click("#language")
        assert page.evaluate("document.documentElement.lang") == "en"
        page.reload()
        assert page.evaluate("document.documentElement.lang") == "en"
        expect(page.locator("#question")).to_have_attribute("placeholder", "Ask something…")
        expect(page.locator(".stats summary")).to_have_text(re.compile(r"tokens · [\d.,]+\stokens/s"))
        # Vietnamese content keeps its language.
        expect(page.locator(".answer > .text")).to_have_attribute("lang", "vi")
        page.screenshot(path=tmp_path / "english.png")
        page.click("#open-settings")
        untranslated = page.evaluate(
            """(letters) => [...document.body.querySelectorAll('*')].filter((e) => !e.closest('[lang=vi]')
              && e.closest('template, svg, .message, #conversations') === null).flatMap((e) => [
                ...[...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data),
                ...['aria-label', 'placeholder', 'title'].map((a) => e.getAttribute(a) ?? '')])
              .filter((text) => new RegExp(letters, 'i').test(text))""",
            f"[{LETTERS}]",
        )
        assert [text for text in untranslated if "Bình dân" not in text and "JavaScript" not in text] == []
        page.keyboard.press("Escape")
        page.click("#language")
        expect(page.locator("#question")).to_have_attribute("placeholder", "Nhập câu hỏi…")


def test_export_and_delete_history(browser: Browser, url: str) -> None:
    with open_page(browser, url) as page:
        ask(page, QUESTION)
        wait_for_answer(page)
        page.click("#new-chat")
        ask(page, GREETING)
        wait_for_answer(page)
        page.click("#open-settings")
        with page.expect_download() as download:
            page.click("#export-json")
        exported = json.loads(Path(download.value.path()).read_text("utf-8"))
        assert re.fullmatch(r"binhdan-\d{4}-\d\d-\d\d\.json", download.value.suggested_filename)
        assert [one["title"] for one in exported["conversations"]] == [GREETING, QUESTION]
        assert exported["conversations"][1]["messages"][1]["content"] == ANSWER
        with page.expect_download() as download:
            page.click("#export-markdown")
        assert download.value.suggested_filename == "Xin-chào.md"
        markdown = Path(download.value.path()).read_text("utf-8")
        assert markdown.startswith(f"# {GREETING}\n") and f"## Bạn\n\n{GREETING}\n" in markdown
        page.keyboard.press("Escape")

        page.hover(f"#conversations li:has-text('{QUESTION}')")
        page.click(f"#conversations li:has-text('{QUESTION}') .delete")
        expect(page.locator("#conversations .open")).to_have_text([GREETING])
        page.click("#notices button")  # undo
        expect(page.locator("#conversations .open")).to_have_count(2)

        page.click("#open-settings")
        page.click("#clear-all")
        page.click("#clear-dialog .close")
        expect(page.locator("#conversations .open")).to_have_count(2)
        page.click("#clear-all")
        page.click("#clear-really")
        expect(page.locator("#conversations .open")).to_have_count(0)
        expect(page.locator("#welcome")).to_be_visible()
        assert not page.evaluate("Object.keys(localStorage).filter((key) => key.includes('chat'))")
        page.reload()
        expect(page.locator("#no-conversations")).to_be_visible()


def test_two_tabs_share_a_conversation(browser: Browser, url: str) -> None:
    with open_page(browser, url) as page:
        ask(page, QUESTION)
        wait_for_answer(page)
        other = page.context.new_page()
        other.goto(url)
        other.click(f"#conversations .open:has-text('{QUESTION}')")
        ask(other, GREETING)
        wait_for_answer(other)
        expect(page.locator(".message")).to_have_count(4)


def test_copy(browser: Browser, url: str) -> None:
    with open_page(browser, url, permissions=["clipboard-read", "clipboard-write"]) as page:
        ask(page, QUESTION)
        wait_for_answer(page)
        page.click(".copy")
        expect(page.locator("#notices")).to_have_text("Đã chép.")
        assert page.evaluate("navigator.clipboard.readText()") == ANSWER


def test_reconnect_after_network_loss(browser: Browser, url: str) -> None:
    with open_page(browser, url, errors=["ERR_INTERNET_DISCONNECTED"]) as page:
        page.context.set_offline(True)
        ask(page, QUESTION)
        expect(page.locator("#problem p")).to_contain_text(["Không kết nối được với máy chủ."])
        expect(page.locator(".question")).to_have_count(1)
        page.context.set_offline(False)
        page.click("#problem button")
        expect(page.locator(".answer > .text")).to_have_text(ANSWER)
        expect(page.locator("#problem")).to_be_hidden()


def test_question_exceeds_the_context(browser: Browser, url: str) -> None:
    with open_page(browser, url, errors=["400"]) as page:
        ask(page, "dài " * 20000)
        expect(page.locator("#problem p").first).to_contain_text("dài quá sức mô hình")


def test_search_and_rename(browser: Browser, chat: ScriptedChat, scripted_url: str) -> None:
    chat.replies += [complete("Phở bò Hà Nội."), complete("Chào bạn."), complete("Bún chả.")]
    with open_page(browser, scripted_url) as page:
        titles = page.locator("#conversations .open")
        for text in ("Món gì ngon?", GREETING, "Món nữa?"):
            page.click("#new-chat")
            ask(page, text)
            wait_for_answer(page)
        page.fill("#search", "pho bo")
        expect(titles).to_have_text(["Món gì ngon?"])
        page.fill("#search", "không có")
        expect(page.locator("#no-conversations")).to_have_text("Không tìm thấy cuộc trò chuyện nào.")
        page.press("#search", "Escape")
        expect(titles).to_have_count(3)

        page.hover("#conversations li >> nth=1")
        page.click("#conversations li >> nth=1 >> .rename")
        page.keyboard.type("Lời chào")
        page.keyboard.press("Enter")
        expect(titles).to_have_text(["Món nữa?", "Lời chào", "Món gì ngon?"])
        page.reload()
        expect(titles).to_have_text(["Món nữa?", "Lời chào", "Món gì ngon?"])
        page.hover("#conversations li >> nth=1")
        page.click("#conversations li >> nth=1 >> .rename")
        page.keyboard.type("Khác")
        page.keyboard.press("Escape")
        expect(titles.nth(1)).to_have_text("Lời chào")


def test_continue_an_answer(browser: Browser, url: str) -> None:
    with open_page(browser, url) as page:
        page.click("#open-settings")
        page.fill("#max-tokens", "3")
        page.keyboard.press("Escape")
        ask(page, QUESTION)
        wait_for_answer(page)
        start = page.locator(".answer > .text").inner_text()
        assert ANSWER.startswith(start) and start != ANSWER
        page.click("#open-settings")
        page.fill("#max-tokens", "")
        page.keyboard.press("Escape")
        page.click(".more")
        expect(page.locator(".answer > .text")).to_have_text(ANSWER)
        wait_for_answer(page)
        expect(page.locator(".more")).to_be_hidden()
        expect(page.locator(".answer .note")).to_be_hidden()


def test_attached_files(browser: Browser, url: str, tmp_path: Path) -> None:
    (tmp_path / "ghi chú.txt").write_text("ha noi la thu do", "utf-8")
    (tmp_path / "ảnh.txt").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    with zipfile.ZipFile(tmp_path / "thư.docx", "w") as archive:
        word = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
        text = "<w:body><w:p><w:r><w:t>Kính gửi</w:t></w:r></w:p></w:body>"
        archive.writestr("word/document.xml", f"<w:document {word}>{text}</w:document>")
    with open_page(browser, url, errors=["400"]) as page:
        page.set_input_files("#file", tmp_path / "ảnh.txt")
        expect(page.locator("#file-note")).to_contain_text("ảnh.txt không phải tệp chữ")
        page.set_input_files("#file", [tmp_path / "ghi chú.txt", tmp_path / "thư.docx"])
        files = page.locator("#files li")
        expect(files).to_have_text(
            [re.compile(r"^ghi chú\.txt, \d+ token Bỏ$"), re.compile(r"^thư\.docx, \d")]
        )
        page.screenshot(path=tmp_path / "files.png")
        with page.expect_request("**/v1/chat/completions") as request:
            ask(page, "them dau")
        content = request.value.post_data_json["messages"][0]["content"]
        assert content.split("\n\n---\n\n") == [
            "Tệp ghi chú.txt:\n\nha noi la thu do",
            "Tệp thư.docx:\n\nKính gửi",
            "them dau",
        ]
        wait_for_answer(page)
        expect(files).to_have_count(0)
        expect(page.locator(".question .files li")).to_have_count(2)
        page.reload()
        page.click(".question .edit")
        expect(files).to_have_count(2)
        page.click("#files button >> nth=0")
        expect(files).to_have_count(1)


def test_the_suggestions_of_the_embedded_model_are_answered(browser: Browser, url: str) -> None:
    answers = {
        "Bạn là ai?": "Tôi là trợ lý Bình Dân",
        "them dau: duong pho ha noi rat dong nguoi": "đường phố hà nội rất đông người",
        "sửa chính tả: hà nọi là thủ đô của việt nam": "hà nội là thủ đô của việt nam",
    }
    with open_page(browser, url) as page:
        expect(page.locator("#suggestions button")).to_have_text(list(answers))
        for suggestion, answer in answers.items():
            page.click("#new-chat")
            page.click(f"#suggestions button:has-text('{suggestion}')")
            expect(page.locator(".answer > .text")).to_contain_text(answer)
            wait_for_answer(page)


def test_why_a_model_cannot_be_loaded(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "hỏng.gguf"
    file.write_bytes(b"junk")
    with serving(models={"nhỏ": None, "hỏng": str(file)}) as url:
        with open_page(browser, url, errors=["503"]) as page:
            page.select_option("#model", "hỏng")
            ask(page, GREETING)
            expect(page.locator("#problem p").first).to_have_text(
                "Không nạp được mô hình này: tệp của nó bị hỏng, hoặc không phải tệp GGUF."
            )
            page.screenshot(path=tmp_path / "problem.png")
