"""The chat page in a browser, with a server that sends hostile or incomplete responses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install 'binhdan[browser]'")

from browser import CONTRAST, ask, chromium, open_page, wait_for_answer
from playwright.sync_api import expect
from scripted_chat import CUT, DONE, Reply, ScriptedChat, chunk, complete, event, usage
from uvicorn_thread import running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    '"><iframe srcdoc="<script>alert(1)</script>"></iframe>',
    "[a](javascript:alert(1)) [b](JaVaScRiPt:alert(1))",
    "[c](java\tscript:alert(1)) [d](\x01javascript:alert(1))",
    "[e](data:text/html,<script>alert(1)</script>) [f](vbscript:x) [g](//evil.example) [h](file:///etc/passwd)",
    "![i](javascript:alert(1)) <javascript:alert(1)> [j]( javascript:alert(1) )",
    '[k](https://ok.example/"onmouseover="alert(1)) **<b onclick=alert(1)>x</b>** `<script>`',
    "```html\n<script>alert(1)</script>\n```\n| <img src=x onerror=alert(1)> |\n|---|\n| <script> |",
    "$\\href{javascript:alert(1)}{x}$ $$\\htmlData{a=b}{x}\\includegraphics{https://evil.example}$$",
    "$$\\def\\a{\\a\\a}\\a$$ \\(\\rule{9999em}{9999em}\\)",
    "{{constructor.constructor('alert(1)')()}} ${alert(1)} &lt;script&gt;",
]

# JavaScript: returns elements with tags, attributes or links that the page never creates in messages.
UNEXPECTED = """() => [
  ...document.querySelectorAll('.message .text *, #conversations *, #problem *')
].filter((e) =>
  !['p','br','strong','em','code','pre','div','ul','ol','li','h3','h4','hr','blockquote','a','table','thead',
    'tbody','tr','th','td','button','svg','use','span','math','semantics','mrow','mi','mo','mn','mtext','mstyle',
    'mspace','mpadded','annotation'].includes(e.localName)
  || [...e.attributes].some((a) => !['id','class','tabindex','href','title','target','rel','start',
    'xmlns','display','encoding','mathcolor','mathvariant','mathbackground','width','height','voffset',
    'data-language','data-wait','type','role','lang','aria-label','aria-hidden','aria-current','data-t'].includes(a.name))
  || (e.localName === 'a' && (!/^https?:$/.test(e.protocol) || e.rel !== 'noopener noreferrer nofollow'))
).map((e) => e.outerHTML)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def chat() -> ScriptedChat:
    return ScriptedChat()


@pytest.fixture
def url(chat: ScriptedChat) -> Iterator[str]:
    with running(chat.app) as url:
        yield url


def answer(page: Page) -> Any:
    """Returns a locator of the last answer's text."""
    return page.locator(".answer:last-child > .text")


def test_text_never_becomes_markup(browser: Browser, chat: ScriptedChat, url: str) -> None:
    with open_page(browser, url) as page:
        alerts: list[str] = []
        page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
        for attack in ATTACKS:
            chat.replies.append(
                Reply([chunk(reasoning=attack), chunk(attack), chunk(finish="stop"), usage(), DONE])
            )
            ask(page, attack)
            wait_for_answer(page)
            shown = page.locator(".question:nth-last-child(2) .text").text_content()
            assert shown == attack.strip()
        assert page.evaluate(UNEXPECTED) == []
        links = page.locator(".message a")
        assert {links.nth(i).get_attribute("href") for i in range(links.count())} == {
            "https://ok.example/%22onmouseover=%22alert(1"
        }
        page.reload()
        expect(page.locator(".answer")).to_have_count(len(ATTACKS))
        assert page.evaluate(UNEXPECTED) == []
        page.wait_for_timeout(200)
        assert alerts == []


def test_hostile_names_and_errors(browser: Browser, chat: ScriptedChat, url: str) -> None:
    attack = "<img src=x onerror=alert(1)>"
    with open_page(browser, url, errors=["500"]) as page:
        page.evaluate(
            """(attack) => {
            const set = (name, value) => { localStorage['binhdan.' + name] = JSON.stringify(value); };
            set('chat.x', {id: 'x', title: attack, updated: 1e15, messages: [
              {role: 'assistant', content: attack, model: attack, ending: attack, reasoning: attack,
               stats: {tokens: attack, prompt: 3, queueMs: -1, decodeMs: [1], vnd: 2, basis: attack}},
              {role: 'system', content: 'x'}, null, 7, {role: 'user', content: {toString: 1}}]});
            const bads = ['', '{', 'null', '[]', '7', '{"id":"y5"}', '{"id":"z","messages":[]}'];
            for (const [i, bad] of bads.entries())
              localStorage['binhdan.chat.y' + i] = bad;
            set('settings', {theme: '"><b>', language: 7, model: [], system: {}, temperature: 'NaN',
              maxTokens: 1e99, thinking: 'yes', __proto__: {polluted: 1}});
        }""",
            attack,
        )
        page.reload()
        expect(page.locator("#conversations .open")).to_have_text([attack])
        page.click("#conversations .open")
        expect(page.locator(".message")).to_have_count(2)
        page.click(".stats summary")
        expect(page.locator(".stats dd").first).to_have_text(attack)
        chat.replies.append(Reply(status=500, error={"message": attack, "code": attack}))
        ask(page)
        expect(page.locator("#problem .quiet")).to_have_text(attack)
        assert page.evaluate(UNEXPECTED) == []


def test_stream_split_at_every_byte(browser: Browser, chat: ScriptedChat, url: str) -> None:
    """The stream has multi-byte characters, CRLF, comments and events with several data lines."""
    text = "Tiếng Việt: ế, 🍚, nghiêng"
    stream = (
        ": lời chào\r\n\r\n".encode() + chunk(text) + chunk(finish="stop").replace(b"\n", b"\r\n") + usage()
    )
    stream += b'event: x\nid: 7\ndata: {"choices":\ndata: []}\n\n' + DONE
    chat.replies.append(Reply([bytes([byte]) for byte in stream]))
    with open_page(browser, url) as page:
        ask(page)
        expect(page.locator(".stats summary")).to_be_visible()
        expect(answer(page)).to_have_text(text)
        assert page.locator(".note").is_hidden()


def test_statistics_of_an_answer(browser: Browser, chat: ScriptedChat, url: str) -> None:
    bill = {
        "queue_ms": 3.2,
        "prompt_ms": 1500,
        "decode_ms": 4000,
        "joules": 12.34,
        "cost_vnd": 0.002134,
        "cost_basis": "measured joules, 2,204 đồng/kWh",
    }
    chat.replies.append(Reply([chunk("Xong."), chunk(finish="stop"), usage(81, **bill), DONE]))
    chat.replies.append(complete("Không có hoá đơn."))
    chat.replies.append(Reply([chunk("Không có gì."), chunk(finish="stop"), DONE]))
    bill |= {"joules": None, "cost_vnd": None}
    chat.replies.append(Reply([chunk("Không có giá."), chunk(finish="stop"), usage(5, **bill), DONE]))
    with open_page(browser, url) as page:
        ask(page)
        expect(page.locator(".stats summary")).to_have_text("81 token · 20 token/giây · 0,0021 đồng")
        page.click(".stats summary")
        terms, values = page.locator(".stats dt"), page.locator(".stats dd")
        assert dict(zip(terms.all_inner_texts(), values.all_inner_texts(), strict=True)) == {
            "Mô hình": "một",
            "Câu hỏi và lịch sử": "20 token",
            "Chờ đến lượt": "3,2 mili giây",
            "Đọc câu hỏi": "1,5 giây",
            "Viết câu trả lời": "4 giây",
            "Điện năng đo được": "12,3 jun",
            "Một nghìn câu như vậy": "2,1 đồng",
            "Cách tính tiền": "measured joules, 2,204 đồng/kWh",
        }
        page.click("#language")
        expect(page.locator(".stats summary")).to_have_text("81 tokens · 20 tokens/s · 0.0021 đồng")
        page.click("#language")
        for _ in range(3):
            ask(page)
            wait_for_answer(page)
        summaries = [text.replace("\xa0", " ") for text in page.locator(".stats summary").all_text_contents()]
        assert summaries[1].startswith("3 token") and "đồng" not in summaries[1]
        assert summaries[2] == ""
        assert summaries[3] == "5 token · 1 token/giây"


def test_reasoning_is_folded(browser: Browser, chat: ScriptedChat, url: str) -> None:
    thoughts = "Để xem. **Không** đậm."
    steps = [chunk(reasoning=thoughts), 0.5, chunk("Vâng."), chunk(finish="stop"), usage(), DONE]
    chat.replies += [Reply(steps), complete("Tiếp.")]
    with open_page(browser, url) as page:
        page.click("#open-settings")
        page.check("#thinking")
        page.keyboard.press("Escape")
        ask(page)
        expect(page.locator(".waiting")).to_contain_text("Đang suy nghĩ…")
        expect(answer(page)).to_have_text("Vâng.")
        expect(page.locator(".waiting")).to_be_hidden()
        expect(page.locator(".reasoning .text")).to_be_hidden()
        page.click(".reasoning summary")
        expect(page.locator(".reasoning .text")).to_have_text(thoughts)
        ask(page)
        expect(answer(page)).to_have_text("Tiếp.")
        assert chat.bodies[0]["reasoning_effort"] == "medium"
        assert chat.bodies[1]["messages"][1] == {"role": "assistant", "content": "Vâng."}


def test_retry_after_is_respected(browser: Browser, chat: ScriptedChat, url: str, tmp_path: Path) -> None:
    error = {"message": "too many tokens this minute", "type": "rate_limit_error", "code": "rate_limit"}
    chat.replies += [Reply(status=429, headers={"Retry-After": "2"}, error=error), complete("Được rồi.")]
    with open_page(browser, url, errors=["429"]) as page:
        ask(page)
        expect(page.locator("#problem p").first).to_contain_text("Nhiều người đang hỏi")
        expect(page.locator("#problem .quiet")).to_have_text("too many tokens this minute")
        button = page.locator("#problem button")
        expect(button).to_be_disabled()
        assert page.evaluate("getComputedStyle(document.querySelector('#problem button'), '::after').content")
        page.screenshot(path=tmp_path / "busy.png")
        assert page.evaluate(CONTRAST) == []
        expect(button).to_be_enabled()
        button.click()
        expect(answer(page)).to_have_text("Được rồi.")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "không nhận câu hỏi này"),
        (403, "không cho phép"),
        (404, "không có mô hình này"),
        (413, "dài quá sức"),
        (500, "Máy chủ gặp lỗi"),
        (502, "Máy chủ gặp lỗi"),
        (503, "chưa sẵn sàng"),
    ],
)
def test_http_errors(browser: Browser, chat: ScriptedChat, url: str, status: int, words: str) -> None:
    chat.replies.append(Reply(status=status, error=None if status == 502 else {"message": "why"}))
    chat.replies.append(complete("Được."))
    with open_page(browser, url, errors=[str(status)]) as page:
        ask(page)
        expect(page.locator("#problem p").first).to_contain_text(words)
        expect(page.locator("#question")).to_be_focused()
        page.click("#problem button")
        expect(answer(page)).to_have_text("Được.")
        expect(page.locator("#problem")).to_be_hidden()


@pytest.mark.parametrize(
    "steps",
    [
        [chunk("Một nửa"), 0.2, CUT],
        [chunk("Một nửa")],
        [chunk("Một nửa"), b"data: {no JSON\n\n", DONE],
        [chunk("Một nửa"), event({"error": {"message": "the engine has ended", "code": None}}), DONE],
    ],
    ids=["connection", "end", "garbage", "error"],
)
def test_interrupted_answers(browser: Browser, chat: ScriptedChat, url: str, steps: list[Any]) -> None:
    chat.replies += [Reply(steps), complete("Trọn vẹn.")]
    with open_page(browser, url, errors=["ERR_INCOMPLETE_CHUNKED_ENCODING"]) as page:
        ask(page)
        expect(page.locator("#problem p").first).to_be_visible()
        expect(answer(page)).to_have_text("Một nửa")
        expect(page.locator(".note")).to_have_text("Câu trả lời bị ngắt ở đây.")
        page.click("#problem button")
        expect(answer(page)).to_have_text("Trọn vẹn.")
        expect(page.locator(".message")).to_have_count(2)


def test_stop_cancels_the_request(browser: Browser, chat: ScriptedChat, url: str) -> None:
    chat.replies += [Reply([chunk("Chờ"), 30.0]), Reply([30.0])]
    with open_page(browser, url) as page:
        ask(page)
        expect(answer(page)).to_have_text("Chờ")
        page.keyboard.press("Escape")
        wait_for_answer(page)
        ask(page, "Chưa có gì")
        expect(page.locator(".waiting").last).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#unanswered")).to_be_visible()
        page.reload()
        expect(page.locator("#unanswered")).to_be_visible()
        chat.replies.append(complete("Đây."))
        page.click("#retry-unanswered")
        expect(answer(page)).to_have_text("Đây.")
        assert chat.disconnects == 2


def test_input_methods(browser: Browser, chat: ScriptedChat, url: str) -> None:
    """Enter that ends a composition (Telex: "tieengs" becomes "tiếng") must not send the question."""
    chat.replies.append(complete("Vâng."))
    with open_page(browser, url) as page:
        devtools = page.context.new_cdp_session(page)
        page.focus("#question")
        for text in ("tie", "tiê", "tiến", "tiếng"):
            devtools.send(
                "Input.imeSetComposition",
                {"text": text, "selectionStart": len(text), "selectionEnd": len(text)},
            )
        composing = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229}
        devtools.send("Input.dispatchKeyEvent", {"type": "rawKeyDown"} | composing)
        devtools.send("Input.insertText", {"text": "tiếng"})
        devtools.send("Input.dispatchKeyEvent", {"type": "keyUp"} | composing)
        expect(page.locator("#question")).to_have_value("tiếng")
        page.evaluate(
            """() => document.querySelector('#question').dispatchEvent(new KeyboardEvent('keydown',
            {key: 'Enter', isComposing: true, bubbles: true, cancelable: true}))"""
        )
        page.wait_for_timeout(200)
        assert chat.bodies == []
        page.keyboard.press("Enter")
        expect(page.locator(".question .text")).to_have_text("tiếng")
        wait_for_answer(page)
        assert len(chat.bodies) == 1


def test_screen_reader_announcements(browser: Browser, chat: ScriptedChat, url: str) -> None:
    """The page announces each sentence once, not each token."""
    sentences = [f"Đây là câu thứ {i}, dài vừa đủ để được đọc lên một mình thôi nhé." for i in range(1, 6)]
    chunks: list[Any] = []
    for word in " ".join(sentences).split(" "):
        chunks += [chunk(f"{word} "), 0.01]
    chat.replies.append(Reply([*chunks, chunk(finish="stop"), usage(), DONE]))
    with open_page(browser, url) as page:
        page.evaluate(
            """() => { window.announced = []; new MutationObserver((changes) => changes.forEach((change) =>
            change.addedNodes.forEach((node) => window.announced.push(node.textContent))))
            .observe(document.querySelector('#announcer'), {childList: true}); }"""
        )
        ask(page)
        wait_for_answer(page)
        announced = page.evaluate("window.announced")
        assert announced[0] == "Đang trả lời…"
        assert " ".join(announced[1:]) == " ".join(sentences)
        assert 2 <= len(announced[1:]) <= len(sentences)
        live = page.evaluate(
            "[...document.querySelectorAll('[aria-live], [role=alert], [role=status]')].map((e) => e.id)"
        )
        assert set(live) == {
            "announcer",
            "file-note",
            "key-wrong",
            "no-conversations",
            "notices",
            "problem-text",
        }


def test_full_storage(browser: Browser, chat: ScriptedChat, url: str) -> None:
    chat.replies += [complete("Một."), complete("Hai.")]
    with open_page(browser, url) as page:
        page.evaluate(
            """() => { let size = 1 << 22, n = 0;
            while (size >= 1) try { localStorage['x' + n++] = 'x'.repeat(size); } catch { size >>= 1; } }"""
        )
        ask(page)
        expect(page.locator("#notices")).to_contain_text("Trình duyệt hết chỗ")
        expect(answer(page)).to_have_text("Một.")
        ask(page)
        expect(answer(page)).to_have_text("Hai.")
        wait_for_answer(page)
        page.evaluate(
            "Object.keys(localStorage).filter((k) => k[0] === 'x').forEach((k) => delete localStorage[k])"
        )
        chat.replies.append(complete("Ba."))
        ask(page)
        expect(answer(page)).to_have_text("Ba.")
        wait_for_answer(page)
        page.reload()
        expect(page.locator(".message")).to_have_count(6)


def test_without_storage(browser: Browser, chat: ScriptedChat, url: str) -> None:
    chat.replies.append(complete("Vẫn chạy."))
    with open_page(browser, url) as page:
        page.context.add_init_script(
            "for (const name of ['localStorage', 'sessionStorage']) Object.defineProperty(window, name,"
            " {get() { throw new DOMException('no', 'SecurityError'); }})"
        )
        page.reload()
        ask(page)
        expect(answer(page)).to_have_text("Vẫn chạy.")


def test_model_selection(browser: Browser, chat: ScriptedChat, url: str) -> None:
    chat.replies += [complete("Một."), complete("Hai.")]
    with open_page(browser, url) as page:
        expect(page.locator("#model option")).to_have_text(["một", "hai"])
        ask(page)
        wait_for_answer(page)
        page.select_option("#model", "hai")
        page.reload()
        expect(page.locator("#model")).to_have_value("hai")
        ask(page)
        wait_for_answer(page)
        assert [body["model"] for body in chat.bodies] == ["một", "hai"]


def test_a_rich_answer(browser: Browser, chat: ScriptedChat, url: str, tmp_path: Path) -> None:
    text = (
        "## Mâm cơm chay cho bốn người\n\nĐây là **ba món** dễ nấu, hợp *ngày rằm*:\n\n"
        "1. Đậu phụ sốt cà chua\n2. Canh nấm rau ngót\n   - nấm rơm, 200 g\n   - rau ngót, một bó\n"
        "3. Nộm hoa chuối\n\n> Nấu canh sau cùng để ăn nóng.\n\n"
        "| món | phút | tiền |\n|---|---|---|\n| đậu phụ | 20 | 25.000đ |\n| canh | 15 | 30.000đ |\n\n"
        "Tính tổng bằng Python:\n\n```python\ntong = sum([25_000, 30_000, 18_000])\n"
        'print(f"Cả mâm hết {tong:,} đồng cho bốn người, tức là {tong / 4:,.0f} đồng một người")\n```\n\n'
        "Xem thêm ở https://vi.wikipedia.org/wiki/Đậu_phụ nhé."
    )
    bill = {"queue_ms": 2, "prompt_ms": 240, "decode_ms": 4200, "joules": 61.2, "cost_vnd": 0.0374}
    steps = [
        chunk(reasoning="Bốn người, ngày rằm…"),
        chunk(text),
        chunk(finish="stop"),
        usage(171, **bill),
        DONE,
    ]
    chat.replies += [Reply(steps)] * 4
    question = "Gợi ý mâm cơm chay cho bốn người, kèm giá tiền."
    for scheme in ("light", "dark"):
        with open_page(browser, url, color_scheme=scheme) as page:
            ask(page, question)
            wait_for_answer(page)
            assert page.evaluate(CONTRAST) == []
            page.set_viewport_size({"width": 1180, "height": 1250})
            page.screenshot(path=tmp_path / f"rich-{scheme}.png")
        with open_page(browser, url, color_scheme=scheme, viewport={"width": 320, "height": 640}) as page:
            ask(page, question)
            wait_for_answer(page)
            assert page.evaluate("document.querySelector('#main').scrollWidth") <= 320
            page.screenshot(path=tmp_path / f"rich-{scheme}-phone.png")
    assert json.dumps(chat.bodies[0]["messages"]) == json.dumps([{"role": "user", "content": question}])


def test_roles_alternate(browser: Browser, chat: ScriptedChat, url: str) -> None:
    """Roles alternate, also after a failed request and an answer with reasoning only."""
    chat.replies += [
        Reply(status=500, error={}),
        Reply([chunk(reasoning="Hừm"), chunk(finish="length"), DONE]),
    ]
    chat.replies.append(complete("Đây."))
    with open_page(browser, url, errors=["500"]) as page:
        for question in ("một", "hai", "ba"):
            ask(page, question)
            wait_for_answer(page)
        expect(answer(page)).to_have_text("Đây.")
        assert [body["messages"] for body in chat.bodies] == [
            [{"role": "user", "content": text}] for text in ("một", "một\n\nhai", "một\n\nhai\n\nba")
        ]
