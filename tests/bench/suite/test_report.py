"""bench/suite/report: one self-contained page for every result; slow: in a real browser."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import bench_results
import pytest

from binhdan.bench.suite.report.page import page
from binhdan.bench.suite.report.svg import Scale, decades, plot, short
from binhdan.bench.suite.result import Result, save_result

VOID = {"meta", "link", "br"}


class Reader(HTMLParser):
    """Fails on tags that are not closed in order; keeps texts and references."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def bare(result: Result) -> Result:
    """A result with all optional parts removed."""
    nothing = {
        "forward_passes": (),
        "speed_by_depth": (),
        "cost": None,
        "energy": None,
        "quality": None,
        "cold_start": None,
    }
    return result.model_copy(update=nothing | {"cases": result.cases[:1], "left_out": ()})


@pytest.mark.parametrize("result", [bench_results.make(), bare(bench_results.make())], ids=["full", "bare"])
def test_the_page_is_self_contained(result: Result) -> None:
    html = page(result)
    reader = Reader(html)
    assert reader.references == ["data:,"] and not {"script", "img", "iframe", "form"} & set(reader.tags)
    assert "url(" not in html and "@import" not in html and "nan" not in re.findall(r"\w+", html)
    assert all(one.count("<") == 0 for one in reader.references)


def test_contents_of_the_full_page() -> None:
    reader = Reader(page(bench_results.make()))
    text = "\n".join(reader.texts)
    # 3 workloads x 3 latencies, the roofline, two charts by depth, the cost.
    assert len([tag for tag in reader.tags if tag == "figure"]) == 3 * 3 + 1 + 2 + 1
    for words in (
        "Tính <thử> & Co.",
        "RAPL package-0, 1000 values per second; measured",
        "3.000 mJ gross, 2.000 mJ above idle",
        "documents, 16 users, cold (no time)",
        "f" * 64,
        "electricity",
        "90.0% of 400 syllables",
    ):
        assert words in text, words
    assert "disturbed" not in text


def test_a_warning_precedes_the_figures_of_a_disturbed_run() -> None:
    html = page(bench_results.make(steal=0.1))
    assert 0 < html.index('role="alert"') < html.index("At a glance")
    assert "10.0% of the processor time" in html


def test_a_missing_meter_is_shown() -> None:
    assert "no meter was found" in page(bench_results.make(energy=False))


def test_scales_and_ticks() -> None:
    scale = Scale(0, 100, 10, 110)
    assert scale(0) == 10 and scale(50) == 60 and scale.ticks() == [0, 20, 40, 60, 80, 100]
    log = Scale(1, 1000, 0, 300, log=True)
    assert log(10) == pytest.approx(100) and log(0) == 0  # below the axis: clamped to its end
    assert log.ticks() == [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    assert len(Scale(1e-3, 1e6, 0, 1, log=True).ticks()) == 10
    assert Scale(5, 5, 0, 1)(5) == 0
    low, high = decades([3, 0, 70])
    assert low <= 3 and high >= 70 and high / low < 60
    assert [short(value) for value in (0.5, 12, 1500, 2e6)] == ["0.5", "12", "1.5k", "2M"]


def test_titles_in_charts_are_escaped() -> None:
    chart = plot("<b>", (0, 1), (0, 1), x_label="<i>", y_label="&")
    chart.dots([(0.5, 0.5)], "series0", ["<script>"])
    svg = chart.svg()
    assert "<b>" not in svg and "<i>" not in svg and "<script>" not in svg


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(tmp_path: Path, width: int, scheme: str) -> None:
    """No console error, no request, no page wider than the screen, enough contrast."""
    pytest.importorskip("playwright")
    from browser import CONTRAST, chromium

    path = tmp_path / "page.html"
    path.write_text(page(bench_results.make(steal=0.1)), encoding="utf-8")
    messages: list[str] = []
    requests: list[str] = []
    with chromium() as browser:
        screen = browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme=scheme,  # type: ignore[arg-type]
        )
        opened = screen.new_page()
        opened.on("console", lambda message: messages.append(message.text))
        opened.on("pageerror", lambda error: messages.append(str(error)))
        opened.on("request", lambda request: requests.append(request.url))
        opened.goto(path.as_uri())
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        assert opened.evaluate(CONTRAST) == []
        # No text is outside of its chart.
        outside = """() => [...document.querySelectorAll('figure svg text')].filter((text) => {
          const box = text.getBoundingClientRect(), own = text.closest('svg').getBoundingClientRect();
          return box.left < own.left - 1 || box.right > own.right + 1 || box.bottom > own.bottom + 1;
        }).map((text) => text.textContent)"""
        assert opened.evaluate(outside) == []
        opened.emulate_media(media="print")
        assert len(opened.pdf()) > 20_000
    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]


def test_command(tmp_path: Path) -> None:
    from binhdan.bench.suite.cli_results import report

    save_result(bench_results.make(), tmp_path / "a.json")
    report(tmp_path / "a.json")
    assert (tmp_path / "a.html").read_text("utf-8").startswith("<!doctype html>")
