"""runtime/server/page/markdown.js in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install 'binhdan[browser]'")

from browser import chromium, open_page
from scripted_chat import ScriptedChat
from uvicorn_thread import running

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with running(ScriptedChat().app) as url, chromium() as browser, open_page(browser, url) as page:
        yield page


MARKDOWN = [
    ("một\nhai\n\nba", "<p>một<br>hai</p><p>ba</p>"),
    (
        "**đậm** và *nghiêng*, __đậm__, _nghiêng_, ***cả hai***",
        "<p><strong>đậm</strong> và <em>nghiêng</em>, <strong>đậm</strong>, <em>nghiêng</em>"
        ", <strong><em>cả hai</em></strong></p>",
    ),
    ("ten_bien_dai 2*3*4 * x * \\*y\\* **dở", "<p>ten_bien_dai 2<em>3</em>4 * x * *y* **dở</p>"),
    ("`a*b*` ``c`d`` `dở", "<p><code>a*b*</code> <code>c`d</code> `dở</p>"),
    ("# Đầu đề\n### Nhỏ\nchữ", "<h3>Đầu đề</h3><h4>Nhỏ</h4><p>chữ</p>"),
    (
        "- một\n- hai\n  - trong\n\n  đoạn\n- ba",
        "<ul><li>một</li><li><p>hai</p><ul><li>trong</li></ul><p>đoạn</p></li><li>ba</li></ul>",
    ),
    (
        "Gồm:\n1. một\n2. hai\n\n3) ba\nxong\n\nhết",
        "<p>Gồm:</p><ol><li>một</li><li>hai</li><li>ba<br>xong</li></ol><p>hết</p>",
    ),
    ("4. bốn\n\t- tab", '<ol start="4"><li>bốn<ul><li>tab</li></ul></li></ol>'),
    ("> trích\n> **đậm**\nsau", "<blockquote><p>trích<br><strong>đậm</strong></p></blockquote><p>sau</p>"),
    ("trên\n\n---\n\ndưới", "<p>trên</p><hr><p>dưới</p>"),
    (
        "| a | b |\n|---|--:|\n| 1 | *2* |",
        '<div class="table" tabindex="0"><table><thead><tr><th>a</th><th>b</th></tr></thead>'
        "<tbody><tr><td>1</td><td><em>2</em></td></tr></tbody></table></div>",
    ),
    (
        "```văn\nx = '<b>'\n\n\ty\n```\nsau",
        '<div class="code" data-language="văn"><pre tabindex="0"><code>'
        "x = '&lt;b&gt;'\n\n\ty</code></pre><button type=\"button\">Chép mã</button></div><p>"
        "sau</p>",
    ),
    (
        "~~~\nchưa hết `",
        '<div class="code"><pre tabindex="0"><code>chưa hết `</code></pre>'
        '<button type="button">Chép mã</button></div>',
    ),
    (
        "[nhãn *sao*](https://a.example/x?y=1&z) và https://b.example/(c). (http://d.example)",
        "<p>{a}nhãn *sao*</a> và {b}https://b.example/(c)</a>. ({d}http://d.example</a>)</p>",
    ),
    ("[x](/gần) [y](#a) <b>z</b> [w] (v)", "<p>[x](/gần) [y](#a) &lt;b&gt;z&lt;/b&gt; [w] (v)</p>"),
]
LINKS = {
    "a": "https://a.example/x?y=1&amp;z",
    "b": "https://b.example/(c)",
    "d": "http://d.example/",
}


def test_markdown_whole_and_streamed(page: Page) -> None:
    anchors = {
        name: f'<a href="{address}" title="{address}" target="_blank" rel="noopener noreferrer nofollow">'
        for name, address in LINKS.items()
    }
    for source, expected in MARKDOWN:
        rendered = page.evaluate(
            """async (text) => {
            const {render} = await import('/page/markdown.js');
            const whole = document.createElement('div');
            render(whole, text);
            const streamed = document.createElement('div');
            for (let i = 1; i <= text.length; i++) render(streamed, text.slice(0, i));
            return [whole.innerHTML, streamed.innerHTML];
        }""",
            source,
        )
        for name, anchor in anchors.items():
            expected = expected.replace(f"{{{name}}}", anchor)
        assert rendered == [expected, expected], source


@pytest.mark.parametrize(
    "text",
    [
        "*" * 100_000,
        "**a " * 25_000,
        "*a **b " * 15_000,
        "_a" * 50_000,
        "`" * 100_000,
        "` `` ``` ```` " * 7_000,
        "[" * 100_000,
        "[a](" * 25_000,
        "](" * 50_000,
        "http://[" * 12_000,
        "> " * 50_000,
        "- " * 50_000,
        "".join("  " * i + "- x\n" for i in range(400)),
        "1. " * 30_000,
        "|" * 50_000 + "\n" + "|-" * 25_000,
        "~" * 100_000 + "`",
        "```" + "a" * 100_000 + "`",
        "# " + " " * 100_000 + "x",
        "-" + " " * 100_000 + "x",
        "\\" * 100_000,
        "$" * 100_000,
        "$a" * 50_000,
        "\\(" * 50_000,
        "$$a\n" * 25_000,
        "```python\n" + "'" * 100_000,
        "a\n" * 50_000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_hostile_text_renders_quickly_and_flat(page: Page, text: str) -> None:
    seconds, depth = page.evaluate(
        """async (text) => {
        const {render} = await import('/page/markdown.js');
        const element = document.createElement('div');
        const start = performance.now();
        render(element, text);
        let max = 0;
        for (const leaf of element.querySelectorAll('*')) {
          let depth = 0;
          for (let e = leaf; e !== element; e = e.parentElement) depth++;
          max = Math.max(max, depth);
        }
        return [(performance.now() - start) / 1000, max];
    }""",
        text,
    )
    assert seconds < 10
    assert depth < 40


def test_formulas_and_coloured_code(page: Page) -> None:
    element = page.evaluate_handle(
        """async (text) => {
        const {render} = await import('/page/markdown.js');
        const element = document.createElement('div');
        document.body.append(element);
        render(element, text);
        return element;
    }""",
        "Giá $5 và $6, `$a$`. $x^2$ và \\(y\\)\n\n$$\n\\frac{a}{b}\n- c\n$$\n\nsai: $\\sai{$\n\n"
        "```py\ndef f():\n    return 'a'  # b\n```",
    ).as_element()
    assert element is not None
    page.wait_for_function("(e) => e.querySelectorAll('math').length === 3", arg=element)
    page.wait_for_function("(e) => e.querySelector('.code-keyword')", arg=element)
    facts = page.evaluate(
        """(e) => ({
        display: e.querySelectorAll('.display math[display=block] mfrac').length,
        first: e.firstChild.textContent.startsWith('Giá $5 và $6, $a$. '),
        wrong: e.children[2].textContent,
        code: e.querySelector('code:not(p code)').textContent,
        classes: [...e.querySelectorAll('.code span')].map((s) => s.className + ' ' + s.textContent),
    })""",
        element,
    )
    assert facts["display"] == 1 and facts["first"] and facts["wrong"] == "sai: $\\sai{$"
    assert facts["code"] == "def f():\n    return 'a'  # b"
    assert {"code-keyword def", "code-name f", "code-string 'a'", "code-comment # b"} <= set(facts["classes"])
