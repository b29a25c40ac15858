"""bench/suite/quantization_page: docs/quantization.md and the plot equal what the command writes."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from binhdan.bench.common.results import FOLDER, load_as
from binhdan.bench.suite.quantization_page import (
    COMMAND,
    FILE,
    PAGE,
    PLOT,
    Quantization,
    main,
    makers,
    parts,
    recipes,
    svg,
)

ROOT = Path(__file__).parents[3]
FOUND = load_as(Quantization, ROOT / FOLDER / FILE)


def test_the_page_equals_what_the_command_writes() -> None:
    assert main(["--check", "--root", str(ROOT)]) == 0


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in (f"{FOLDER}/{FILE}", PAGE, PLOT):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", [PAGE, PLOT])
def test_an_old_page_or_plot_is_an_error(name: str, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = FOUND.rows[0]
    result = copy / FOLDER / FILE
    result.write_text(result.read_text("utf-8").replace(f'"kl": {first.kl}', '"kl": 1.234', 1), "utf-8")
    before = (copy / name).read_text("utf-8")
    assert main(["--check", "--root", str(copy)]) == 1
    assert COMMAND in capsys.readouterr().err
    assert main(["--write", "--root", str(copy)]) == 0 == main(["--check", "--root", str(copy)])
    assert (copy / name).read_text("utf-8") != before


def test_ratios_are_those_of_files_of_equal_size() -> None:
    tables = parts(FOUND)["tables"]
    for row in FOUND.rows:
        theirs = FOUND.theirs(row)
        if theirs is not None:
            assert theirs.recipe == row.recipe and theirs.maker == "llama.cpp" != row.maker
            assert f"| {row.kl / theirs.kl:.2f} |" in tables
    assert makers(FOUND.rows)[-1] == "llama.cpp"


def test_the_plot_is_xml_with_a_dot_for_each_file() -> None:
    root = ET.fromstring(svg(FOUND))
    shown = [model for model in FOUND.models if len(recipes(FOUND, model)) > 1]
    dots = root.findall(".//{http://www.w3.org/2000/svg}circle")
    assert len(dots) == sum(len(FOUND.of(model.model)) for model in shown) > 0


def test_wrong_markers_raise(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = copy / PAGE
    text = page.read_text("utf-8").replace("<!-- quantization: tables -->", "<!-- quantization: table -->")
    page.write_text(text, "utf-8")
    assert main(["--check", "--root", str(copy)]) == 1
    assert "once for each of tables, summary, measured" in capsys.readouterr().err


def test_the_page_and_the_architecture_name_the_commands() -> None:
    for document in (PAGE, "docs/architecture.md"):
        text = (ROOT / document).read_text("utf-8")
        assert COMMAND in text and "tests/measure_quantization.py" in text
