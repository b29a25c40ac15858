"""bench/suite/models_page: docs/models.md equals what the command writes; its lists are those of the core."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from core_lists import architectures, tokenizer_models

import binhdan
from binhdan import _native
from binhdan.bench.common.results import FOLDER, Results, load_as
from binhdan.bench.suite.models_page import COMMAND, FILES, PAGE, Models, main, speeds
from binhdan.quantize.families import FAMILIES

ROOT = Path(__file__).parents[3]
MODELS = load_as(Models, ROOT / FOLDER / "models.json")


def test_the_page_equals_what_the_command_writes() -> None:
    assert main(["--check", "--root", str(ROOT)]) == 0


def test_the_lists_are_those_of_the_core_and_of_quantize(tmp_path: Path) -> None:
    """After a change: tests/measure_models.py --write, then the command of the page."""
    assert [one.name for one in MODELS.families if one.runs] == architectures(tmp_path)
    assert MODELS.vocabularies == tokenizer_models(tmp_path)
    assert MODELS.pretokenizers == _native.pretokenizer_names()
    assert MODELS.types == list(_native.dtypes())
    converted = {one.name: set(one.checkpoints) for one in MODELS.families}
    expected: dict[str, set[str]] = {name: set() for name in converted}
    for family in FAMILIES:
        expected[family.name] |= set(family.classes)
    assert converted == expected


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the page and of its result files."""
    (tmp_path / FOLDER).mkdir(parents=True)
    for path in (ROOT / FOLDER).glob(FILES):
        shutil.copy(path, tmp_path / FOLDER)
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / PAGE, tmp_path / PAGE)
    return tmp_path


def speed_file(folder: Path, file: str) -> Path:
    head = json.loads((ROOT / FOLDER / "speed.json").read_text("utf-8"))
    ours = {"median": 1874, "low": 1800, "high": 1900}
    rows = [
        {"file": file, "engine": "binhdan avx2", "prompt": ours, "decode": ours},
        {"file": file, "engine": "ik_llama.cpp", "prompt": ours, "prompt_ratio": {"median": 1.1}},
        {
            "file": file,
            "engine": "llama.cpp avx2",
            "prompt": {"median": 482},
            "prompt_ratio": {"median": 3.88, "low": 3.5, "high": 4},
            "decode": {"median": 68},
            "decode_ratio": {"median": 1.57},
        },
    ]
    path = folder / "models-speed-other.json"
    path.write_text(
        json.dumps(head | {"kind": "peers", "title": "Speeds of families", "rows": rows}), "utf-8"
    )
    return path


def test_a_record_of_speeds_is_shown_in_the_row_of_its_family(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speed_file(copy / FOLDER, "SmolLM3-3B-Q4_K_M")
    assert main(["--check", "--root", str(copy)]) == 1
    assert COMMAND in capsys.readouterr().err
    assert main(["--write", "--root", str(copy)]) == 0 == main(["--check", "--root", str(copy)])
    page = (copy / PAGE).read_text("utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith("| `smollm3` |")]
    assert row.endswith("| prompt 3.88 ×, decode 1.57 × |")
    assert "| SmolLM3-3B-Q4_K_M | llama.cpp avx2 | 482 |" in page
    assert "[models-speed-other.json](../bench/results/models-speed-other.json): 2026-" in page


def test_a_file_name_without_a_family_raises(tmp_path: Path) -> None:
    results = load_as(Results, speed_file(tmp_path, "unknown-1B"))
    with pytest.raises(binhdan.BadFormatError, match=r"unknown-1B: expected a name that begins with one of"):
        speeds([results], ["gemma3", "llama"])


def test_wrong_markers_raise(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = copy / PAGE
    page.write_text(
        page.read_text("utf-8").replace("<!-- models: types -->", "<!-- models: kinds -->"), "utf-8"
    )
    assert main(["--check", "--root", str(copy)]) == 1
    assert "once for each of families" in capsys.readouterr().err


def test_the_page_and_the_architecture_name_the_commands() -> None:
    for document in (PAGE, "docs/architecture.md"):
        text = (ROOT / document).read_text("utf-8")
        assert COMMAND in text and "tests/measure_models.py --write" in text
