"""Drives the installed Chromium with Playwright (extra `browser`), for tests of the chat page.

Import this module after `pytest.importorskip("playwright")`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

_TIMEOUT_MS = 20_000  # generous, because machines are shared
_NAMES = ("chromium", "chromium-browser", "google-chrome-stable")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yields a browser; skips the test if Chromium is not installed."""
    path = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"requires one of {', '.join(_NAMES)}")
    with sync_playwright() as playwright:
        # Chromium's sandbox does not run as root, as in containers; we open only our own pages.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(browser: Browser, url: str, *, errors: Sequence[str] = (), **context: Any) -> Iterator[Page]:
    """Yields the chat page at `url` in a new profile. `context`: arguments of Browser.new_context.

    At the end, asserts that the page logged no warning, error or violation of its content security policy,
    except messages that contain a word of `errors`, and that it sent no request to another server.
    """
    messages: list[str] = []
    requests: list[str] = []
    profile = browser.new_context(**{"viewport": {"width": 1180, "height": 800}} | context)
    profile.set_default_timeout(_TIMEOUT_MS)
    expect.set_options(timeout=_TIMEOUT_MS)

    def record(page: Page) -> None:
        page.on("console", lambda m: messages.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))

    profile.on("page", record)
    try:
        page = profile.new_page()
        page.goto(url)
        page.wait_for_selector(
            "#model option[value]", state="attached"
        )  # the page has loaded the list of models
        yield page
    finally:
        profile.close()
    assert [message for message in messages if not any(word in message for word in errors)] == []
    assert [address for address in requests if not address.startswith((url, "blob:"))] == []


def ask(page: Page, text: str = "Hỏi") -> None:
    """Sends a question."""
    page.fill("#question", text)
    page.press("#question", "Enter")


def wait_for_answer(page: Page) -> None:
    """Waits for the end of the answer."""
    expect(page.locator(".answer[aria-busy=true]")).to_have_count(0)
    expect(page.locator("#send")).to_be_visible()


# JavaScript: returns the visible texts whose contrast with the background is below 4.5 (WCAG 2.2, 1.4.3).
CONTRAST = """() => {
  const channel = (v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const background = (element) => {
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
    const [a, b] = [luminance(parse(style.color)), luminance(background(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push(`${ratio.toFixed(2)} ${element.outerHTML.slice(0, 90)}`);
  }
  return bad;
}"""
