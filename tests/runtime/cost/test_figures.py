"""runtime/cost/figures.py: errors name the file and the key."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binhdan.runtime.cost.figures import (
    BOARDS,
    FigureError,
    load_board,
    load_tariff,
    tariff_names,
)

BOARD_NAMES = sorted(path.stem for path in BOARDS.glob("*.toml"))
BOARD = """
name = "mine"
[price]
value = 100
unit = "USD"
source = "a shop"
date = 2026-11-01
[life_years]
value = 4
assumed = true
[idle_watts]
value = 3
assumed = true
[busy_watts]
value = 9.5
assumed = true
"""
TARIFF = """
name = "mine"
source = "a decision"
date = 2026-01-01
vnd_per_kwh = 2000
[vat]
value = 0.1
assumed = true
"""


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_board_from_a_file(tmp_path: Path) -> None:
    board = load_board(file(tmp_path, BOARD))
    assert board.name == "mine" and board.price and board.price.value == 100
    assert [name for name, _ in board.figures()] == ["price", "life_years", "idle_watts", "busy_watts"]
    assert load_board(str(file(tmp_path, BOARD))) == board


def test_every_shipped_figure_has_a_source_or_is_assumed() -> None:
    assert {"raspberry-pi-4", "raspberry-pi-5", "orange-pi-5", "rk3588", "intel-n100"} <= set(BOARD_NAMES)
    assert {"intel-n150", "office-i5", "cloud-vm-2-cores", "unknown"} <= set(BOARD_NAMES)
    for name in BOARD_NAMES:
        for _, figure in load_board(name).figures():
            assert figure.assumed != bool(figure.source and figure.date)
    for name in tariff_names():
        tariff = load_tariff(name)
        assert not tariff.assumed and tariff.source and tariff.date


def test_shipped_boards_say_what_they_compute_with() -> None:
    for name in BOARD_NAMES:
        hardware = load_board(name).hardware
        if hardware is None:
            assert name in {"cloud-vm-2-cores", "office-i5", "unknown"}
            continue
        assert hardware.source and hardware.date and not hardware.assumed
        clocks = [cores.ghz for cores in hardware.cores]
        assert clocks == sorted(clocks, reverse=True) and 5 < hardware.memory_gb_per_s < 100
    pi = load_board("raspberry-pi-5").hardware
    assert pi and (pi.cores[0].kind, pi.cores[0].count) == ("cortex-a76", 4)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "mine"', "", r"name: expected this field, got none"),
        ("value = 9.5", "value = -1", r"busy_watts\.value: expected a number of at least 0, got -1"),
        ("value = 9.5", 'value = "9"', r"busy_watts\.value: expected a number, got 9"),
        ("value = 9.5", "value = true", r"busy_watts\.value: expected a number, got True"),
        ("value = 9.5", "value = inf", r"busy_watts\.value"),
        ("value = 9.5", "value = nan", r"busy_watts\.value"),
        ("value = 9.5", "", r"busy_watts\.value: expected this field, got none"),
        ("value = 4", "value = 0", r"life_years: expected more than 0"),
        ('source = "a shop"', "", r"price: expected source and date, or assumed = true"),
        (
            "date = 2026-11-01",
            'date = "November"',
            r"price\.date: expected a date such as 2026-11-30",
        ),
        ('unit = "USD"', 'unit = "EUR"', r"price\.unit: expected 'VND' or 'USD', got EUR"),
        ('unit = "USD"', "", r"price\.unit: expected this field, got none"),
        ("[idle_watts]", "[idle_wats]", r"idle_wats: expected no field of this name"),
        ("[busy_watts]\nvalue = 9.5\nassumed = true", "", r"expected busy_watts, or rent_per_month"),
        ("[idle_watts]", "[rent_per_month]\nunit = 'USD'", r"expected rent_per_month or price"),
        ("value = 4", "value == 4", r"\(at line 9, column 8\)"),
        ("[price]", "[[price]]", r"price: expected an object, got"),
    ],
)
def test_invalid_boards(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in BOARD
    path = file(tmp_path, BOARD.replace(old, new))
    with pytest.raises(FigureError, match=message) as error:
        load_board(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("vnd_per_kwh = 2000", "", "expected exactly one of vnd_per_kwh, steps and bands"),
        ("vnd_per_kwh = 2000", "vnd_per_kwh = 0", "vnd_per_kwh: expected a number above 0, got 0"),
        ("vnd_per_kwh = 2000", "vnd_per_kwh = 1\nsteps = [{vnd_per_kwh = 2}]", "expected exactly one of"),
        ("vnd_per_kwh = 2000", "steps = []", "steps: .* at least 1 item"),
        ("vnd_per_kwh = 2000", "steps = [{vnd_per_kwh = 2}]", "steps: expected base_kwh_per_month"),
        (
            "vnd_per_kwh = 2000",
            "bands = [{name = 'day', hours_per_week = 100, vnd_per_kwh = 2}]",
            "expected 168 hours per week in total, got 100",
        ),
        (
            "vnd_per_kwh = 2000",
            "bands = [{name = 'day', hours_per_week = 168}]",
            r"bands\.0\.vnd_per_kwh: expected this field, got none",
        ),
        ("[vat]\nvalue = 0.1\nassumed = true", "", "vat: expected this field, got none"),
        ('source = "a decision"', "", "expected source and date, or assumed = true"),
    ],
)
def test_invalid_tariffs(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TARIFF
    path = file(tmp_path, TARIFF.replace(old, new))
    with pytest.raises(FigureError, match=message) as error:
        load_tariff(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "ends",
    [
        [100, 50, None],
        [50, 50, None],
        [None, 50, None],  # a middle step without an end
        [50, 100],  # a last step with an end
    ],
)
def test_steps_rise_and_the_last_is_open(tmp_path: Path, ends: list[int | None]) -> None:
    steps = ", ".join(f"{{{f'upto_kwh = {end}, ' if end else ''}vnd_per_kwh = 1}}" for end in ends)
    text = TARIFF.replace("vnd_per_kwh = 2000", f"steps = [{steps}]")
    with pytest.raises(FigureError, match="increasing upto_kwh"):
        load_tariff(file(tmp_path, text + "[base_kwh_per_month]\nvalue = 1\nassumed = true\n"))


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(FigureError, match=r"unknown board 'raspberry-pi-9'; expected .*raspberry-pi-5"):
        load_board("raspberry-pi-9")
    with pytest.raises(FigureError, match=r"unknown tariff 'evn'; expected .*evn-average"):
        load_tariff("evn")
    with pytest.raises(FigureError, match="no such file"):
        load_board(tmp_path / "none.toml")
    with pytest.raises(FigureError, match="expected a file, got a folder"):
        load_board(tmp_path)


def test_files_that_are_not_boards(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FigureError, match=r"mine\.toml: "):
        load_board(path)
    path.write_text("a = " + "[" * 50_000)
    with pytest.raises(FigureError, match=r"mine\.toml: "):
        load_board(path)
    path.write_text("#" * 70_000)
    with pytest.raises(FigureError, match="up to 65,536 bytes"):
        load_board(path)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_arbitrary_bytes_return_a_board_or_raise_figure_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, offset: int
) -> None:
    path = tmp_path_factory.mktemp("board") / "mine.toml"
    whole = BOARD.encode()
    path.write_bytes(whole[:offset] + data + whole[offset:])
    with suppress(FigureError):
        assert load_board(path).name
