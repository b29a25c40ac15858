"""The machine's own Chromium, driven by Playwright (extra `browser`), for tests of the chat page.

Import this module after `pytest.importorskip("playwright")`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

_PATIENCE = 20_000  # ms, for anything to happen: machines are shared
_NAMES = ("chromium", "chromium-browser", "google-chrome-stable")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Skips the test where there is none."""
    path = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(_NAMES)} is installed")
    with sync_playwright() as playwright:
        # Root, as in containers, has no sandbox; the pages are our own.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visit(browser: Browser, url: str, *, errors: Sequence[str] = (), **context: Any) -> Iterator[Page]:
    """The chat page at `url` in a profile of its own. `context`: of Browser.new_context.

    Fails when the page logs an error, or breaks its content security policy, unless a word of `errors` is in
    the message; and when it asks another server than its own.
    """
    messages: list[str] = []
    strangers: list[str] = []
    own = browser.new_context(**{"viewport": {"width": 1180, "height": 800}} | context)
    own.set_default_timeout(_PATIENCE)
    expect.set_options(timeout=_PATIENCE)

    def heard(page: Page) -> None:
        page.on("console", lambda m: messages.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith((url, "blob:")) else strangers.append(r.url))

    own.on("page", heard)
    try:
        page = own.new_page()
        page.goto(url)
        page.wait_for_selector("#model option[value]", state="attached")  # it has asked for the models
        yield page
    finally:
        own.close()
    assert [message for message in messages if not any(word in message for word in errors)] == []
    assert strangers == []


# JavaScript: texts on the screen whose contrast with what is behind them is below 4.5 (WCAG 2.2, 1.4.3).
CONTRAST = """() => {
  const channel = (v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      if (color[3] === undefined || color[3] === 1) return color;
    }
  };
  const top = document.querySelector('dialog[open]') ?? document.body;
  const bad = [];
  for (const element of top.querySelectorAll('*')) {
    const has = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!has && !element.placeholder) continue;
    if (!element.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    if (element.closest('.hidden, option, select:disabled')) continue;
    const style = getComputedStyle(element, has ? null : '::placeholder');
    const [a, b] = [luminance(parse(style.color)), luminance(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push(`${ratio.toFixed(2)} ${element.outerHTML.slice(0, 90)}`);
  }
  return bad;
}"""
