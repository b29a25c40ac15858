"""bench/suite/performance_page: the pages equal what the command writes; numbers keep their digits."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path

import pytest

import binhdan
from binhdan.bench.common.arrivals import Closed, Open
from binhdan.bench.common.machine import this_machine
from binhdan.bench.common.output import to_json
from binhdan.bench.common.results import FOLDER, load_results
from binhdan.bench.common.statistics import Spread
from binhdan.bench.load.compare import Comparison, Result
from binhdan.bench.load.prompts import Sizes
from binhdan.bench.micro.case import Case
from binhdan.bench.micro.profile import profile
from binhdan.bench.suite import embeddings
from binhdan.bench.suite.performance_page.__main__ import COMMAND, PAGES, main, outdated
from binhdan.bench.suite.performance_page.tables import number, table
from binhdan.runtime.client.model import embedded_model

ROOT = Path(__file__).parents[3]
OTHER_PAGES = {"models.json", "quantization.json"}
FILES = sorted(path for path in (ROOT / FOLDER).glob("*.json") if path.name not in OTHER_PAGES)


def test_pages_equal_what_the_command_writes() -> None:
    assert outdated(ROOT) == []


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the pages and the result files."""
    shutil.copytree(ROOT / FOLDER, tmp_path / FOLDER)
    for name in PAGES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_a_changed_figure_is_found_and_written(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy / FOLDER / "peers-amx.json"
    text = path.read_text("utf-8")
    assert text.count('"median": 1734,') == 1
    path.write_text(text.replace('"median": 1734,', '"median": 1734.56,'), "utf-8")
    assert main(["--check", "--root", str(copy)]) == 1
    assert "docs/performance.md differs" in capsys.readouterr().err
    assert main(["--write", "--root", str(copy)]) == 0 == main(["--check", "--root", str(copy)])
    assert "| 1,735 (1,313–1,778) |" in (copy / "docs/performance.md").read_text("utf-8")


def test_a_file_that_no_page_shows_is_found(copy: Path) -> None:
    shutil.copy(copy / FOLDER / "speed.json", copy / FOLDER / "other.json")
    assert outdated(copy) == ["bench/results/other.json: no page shows this file"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("<!-- results: peers-amx.json -->", "<!-- results: nowhere.json -->"), "nowhere.json"),
        (("<!-- results: peers-amx.json -->", "<!-- results peers-amx.json -->"), "complete blocks"),
    ],
)
def test_wrong_markers_raise(copy: Path, change: tuple[str, str], message: str) -> None:
    page = copy / "docs/performance.md"
    page.write_text(page.read_text("utf-8").replace(*change), "utf-8")
    with pytest.raises(binhdan.BinhdanError, match=message):
        outdated(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format"),
        ({"kind": "other"}, "kind"),
        ({"extra": 1}, "extra"),
        ({"rows": [{"engine": True}]}, "rows"),
        ({"date": "yesterday"}, "result file in JSON"),
    ],
)
def test_wrong_result_files_raise(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(json.loads((ROOT / FOLDER / "speed.json").read_text("utf-8")) | change))
    with pytest.raises(binhdan.BadFormatError, match=message):
        load_results(path)


def test_a_row_without_a_column_raises(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    fields = json.loads((ROOT / FOLDER / "speed.json").read_text("utf-8"))
    path.write_text(json.dumps(fields | {"rows": [{"model": "a", "color": "red"}]}))
    with pytest.raises(binhdan.BadFormatError, match="no column for \\['color'\\]"):
        table(load_results(path))


def test_a_number_has_the_digits_of_the_file_at_most() -> None:
    assert number(Decimal("1.80"), 2) == "1.80" and number(Decimal("1.8"), 2) == "1.8"
    assert number(Decimal("1734.56"), 0) == "1,735" and number(Decimal(71), 1) == "71"
    assert number(Decimal("-3.4"), 1) == "\N{MINUS SIGN}3.4"


def test_the_vietnamese_table_has_vietnamese_headers() -> None:
    results = load_results(ROOT / FOLDER / "speed.json")
    assert table(results, "vi").startswith("| mô hình |") and table(results).startswith("| model |")
    assert "| 25,180 tokens/s |" in table(results)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_result_file_names_its_machine(path: Path) -> None:
    results = load_results(path)
    assert results.title and (results.machine or results.conditions)
    assert results.commands or results.conditions


def test_record_of_bench_peers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spread = {"median": 1734.5678, "low": 1313.0, "high": 1778.25}
    result = {
        "name": "binhdan amx",
        "version": "0.1.0",
        "instruction_sets": "amx",
        "prompt": spread,
        "decode": {"median": 50.0, "low": 49.5, "high": 51.0},
        "prompt_ratio": None,
        "decode_ratio": None,
        "failure": None,
    }
    comparison = {
        "machine": {"processor": "A", "cores": 2, "kernels": ["scalar", "amx"], "system": "Linux 6"},
        "case": {"model": "/models/a-Q4_0.gguf", "threads": 2},
        "rounds": 5,
        "results": [result, result | {"failure": "no memory"}],
        "decode_limit": 100.0,
    }
    (tmp_path / "peers.json").write_text(json.dumps([comparison]))
    output = tmp_path / "a.json"
    arguments = ["--record", str(tmp_path / "peers.json"), "-o", str(output), "--title", "A"]
    assert main([*arguments, "--command", "binhdan bench peers"]) == 0
    results = load_results(output)
    assert results.machine and results.machine.cores == 2 and results.conditions == ["5 rounds", "2 threads"]
    assert "| a-Q4_0 | binhdan amx | 1,735 (1,313–1,778) | 50.0 (49.5–51.0) | 50 % |" in table(results)
    (tmp_path / "peers.json").write_text("[]")
    assert main(arguments) == 1 and "bench peers" in capsys.readouterr().err


def test_record_of_bench_embeddings(tmp_path: Path) -> None:
    spread = Spread(250.0, 240.0, 260.0)
    first = embeddings.Result(
        name="binhdan", version="0.1.0", instruction_sets="avx2", texts_per_s=spread, ratio=None
    )
    comparison = embeddings.Comparison(
        machine=this_machine(),
        model="e5.gguf",
        threads=2,
        texts=1000,
        characters=60_181,
        rounds=3,
        results=[first, replace(first, name="other", ratio=Spread(2.0, 1.9, 2.1))],
    )
    (tmp_path / "embeddings.json").write_text(to_json(asdict(comparison)))
    output = tmp_path / "a.json"
    assert main(["--record", str(tmp_path / "embeddings.json"), "-o", str(output), "--title", "A"]) == 0
    results = load_results(output)
    assert "60 characters in a text on average" in results.conditions
    assert "| e5 | other | 250 (240–260) | 2.0 (1.9–2.1) |" in table(results)


def test_record_of_bench_profile(tmp_path: Path) -> None:
    measured = profile(Case(model=embedded_model(), threads=1, prompt=8, decode=2))
    (tmp_path / "profile.json").write_text(to_json(asdict(measured)))
    output = tmp_path / "a.json"
    assert main(["--record", str(tmp_path / "profile.json"), "-o", str(output), "--title", "A"]) == 0
    results = load_results(output)
    assert results.machine == measured.machine and [one.name for one in results.passes] == [
        "prompt of 8",
        "one step",
    ]
    assert "| operation | ms |" in table(results) and "| attention |" in table(results)


def test_record_of_bench_load_compare(tmp_path: Path) -> None:
    spread = Spread(280.0, 278.0, 283.5)
    first = Result(
        server="binhdan serve",
        arrivals=Closed(users=16, requests=2),
        loads=[],
        tokens_per_s=spread,
        ttft_p95_s=spread,
        peak_rss_bytes=591_000_000,
    )
    second = replace(first, server="other", arrivals=Open(rate=0.3), tokens_per_s_ratio=Spread(2.5, 2.4, 2.6))
    comparison = Comparison(
        version="0.1.0",
        machine=this_machine(),
        model="a.gguf",
        sizes=Sizes(),
        words_per_token=1.0,
        rounds=2,
        results=[first, second, replace(first, failure="no answer")],
    )
    (tmp_path / "compare.json").write_text(to_json(asdict(comparison)))
    output = tmp_path / "a.json"
    assert main(["--record", str(tmp_path / "compare.json"), "-o", str(output), "--title", "A"]) == 0
    text = table(load_results(output))
    assert "| 16 users | binhdan serve | 280 (278–284) |" in text and "| 591 MB |" in text
    assert "| 0.3 requests/s | other |" in text and "| 2.50 (2.40–2.60) |" not in text


def test_the_page_names_the_command() -> None:
    assert COMMAND in (ROOT / "docs/performance.md").read_text("utf-8")
