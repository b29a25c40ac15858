"""bench/boards: the work of a token, predictions, and the result of a measured board."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import binhdan
from binhdan import _native
from binhdan.bench.boards.check import check, check_table
from binhdan.bench.boards.measure import Sensors, measure, read_sensors, write
from binhdan.bench.boards.predict import LOOPS, OTHER, Rates, board_rates, measured_rates, predict
from binhdan.bench.boards.work import Product, Work, work_of
from binhdan.runtime.cost.figures import load_board
from binhdan.runtime.ffi import library
from binhdan.runtime.options import LoadOptions

WORK = Work(
    name="x",
    products=[
        Product(type="Q4_0", macs=1_000_000, bytes=600_000, in_prefill=True),
        Product(type="Q8_0", macs=500_000, bytes=500_000, in_prefill=False),
        Product(type="F32", macs=1_000, bytes=4_000, in_prefill=True),
    ],
    weight_bytes=1_100_000,
    kv_bytes=1_000,
    attention_macs=100,
)


def rates(bytes_per_s: float, macs: float = 1e9) -> Rates:
    kinds = {"Q4_0": macs, "Q8_0": macs / 2}
    return Rates(prefill=kinds, decode=kinds, bytes_per_s=bytes_per_s, source="test")


def test_prefill_is_limited_by_multiply_adds() -> None:
    assert predict(WORK, rates(1e9), 0).prefill_tokens_per_s == pytest.approx(1000 / (1 + OTHER))


def test_decode_reads_and_computes() -> None:
    slow_memory = predict(WORK, rates(1e6), 100)
    assert slow_memory.decode_bound == "memory"
    assert slow_memory.decode_tokens_per_s == pytest.approx(1e6 / (1_200_000 + 2_000 * (1 + OTHER)))
    slow_cores = predict(WORK, rates(1e12), 100)
    assert slow_cores.decode_bound == "cores"
    assert slow_cores.decode_tokens_per_s == pytest.approx(500 / (1 + OTHER), rel=0.01)


def test_a_type_without_a_rate() -> None:
    with pytest.raises(binhdan.UnsupportedError, match="F32, Q8_0 in 33%"):
        only = {"Q4_0": 1e9}
        predict(WORK, Rates(prefill=only, decode=only, bytes_per_s=1e9, source="test"), 0)


def test_the_work_of_the_embedded_model(model: binhdan.Model) -> None:
    """A decoded token reads the weights of the file, within 2 %, and multiplies with each matrix once."""
    work = work_of(str(model.path))
    assert work.weight_bytes == pytest.approx(model.info.bytes_per_token, rel=0.02)
    assert work.macs(prefill=False) == pytest.approx(model.info.parameters, rel=0.02)
    assert work.macs(prefill=True) < work.macs(prefill=False)
    assert work.kv_bytes == model.info.kv_bytes_per_token


def test_the_engine_does_the_work_of_the_prediction(model: binhdan.Model) -> None:
    """Multiply-adds and bytes that the engine counts while it runs: no clock decides."""
    work, prompt, steps, depth = work_of(str(model.path)), 32, 4, 64
    core = library()
    handle = core.open_model(str(model.path), LoadOptions(threads=1))
    try:
        passes = _native.profile(handle, 1, prompt, steps, depth, 1, "f16")
    finally:
        core.close_model(handle)
    prefill, decode = ({op["name"]: op for op in passes[kind]["ops"]} for kind in ("prefill", "decode"))

    def total(ops: dict[str, Any], what: str, *without: str) -> int:
        return sum(op[what] for name, op in ops.items() if name not in without)

    assert total(decode, "macs", "attention") == steps * work.macs(prefill=False)
    assert total(decode, "bytes", "attention") == steps * work.weight_bytes
    positions = depth + (steps + 1) / 2
    assert decode["attention"]["bytes"] / steps == pytest.approx(work.kv_bytes * positions, rel=0.03)
    assert decode["attention"]["macs"] / steps == pytest.approx(work.attention_macs * positions, rel=0.03)
    # Only the last row of a prompt goes through the last layer after its keys and values.
    share = total(prefill, "macs", "attention", "logits") / (prompt * work.macs(prefill=True))
    layers = json.loads(core.inspect(str(model.path)))["layers"]
    assert 1 - 1 / layers < share <= 1


def test_boards_with_analyzed_cores() -> None:
    pi = board_rates(load_board("raspberry-pi-5"))
    assert pi.prefill["Q4_0"] == pytest.approx(4 * 2.4e9 * LOOPS["cortex-a76"]["Q4_0"].prefill)
    assert board_rates(load_board("raspberry-pi-4")).prefill["Q4_0"] < pi.prefill["Q4_0"] / 4
    # The little cores of big.LITTLE do not count.
    assert board_rates(load_board("orange-pi-5")).prefill == pi.prefill
    with pytest.raises(binhdan.UnsupportedError, match=r"has no \[hardware\]"):
        board_rates(load_board("unknown"))
    with pytest.raises(binhdan.UnsupportedError, match="gracemont"):
        board_rates(load_board("intel-n100"))


def test_rates_of_this_machine(model: binhdan.Model) -> None:
    work = work_of(str(model.path))
    one = measured_rates(work, model.info.isa, 1, 1e9, seconds=0.01)
    assert set(one.prefill) >= {"Q8_0"} and all(rate > 0 for rate in one.prefill.values())
    assert predict(work, one, 0).decode_tokens_per_s > 0


def test_measure_a_board(model: binhdan.Model, tmp_path: Path) -> None:
    times = iter([0.0, 1.0, 2.0, 3.0, 100.0, 101.0, 102.0])
    lines: list[str] = []
    hot = Sensors(celsius=71.0, mhz=(1500.0,), throttled=0b100)
    result = measure(model, 10, lines.append, lambda: hot, lambda: next(times))
    assert len(result.points) == len(lines) == 2 and "71 °C, 1500 MHz" in lines[0]
    assert result.throttled is True and result.max_celsius == 71
    write(tmp_path / "board.json", result)
    document = json.loads((tmp_path / "board.json").read_text("utf-8"))
    assert document["schema"] == "binhdan.bench.board/1" and document["points"][1]["sensors"]["celsius"] == 71
    assert str(model.path.parent) not in json.dumps(document)
    assert "throttled" in result.summary()


def test_sensors(tmp_path: Path) -> None:
    assert read_sensors(tmp_path) == Sensors(celsius=None, mhz=(), throttled=None)
    for path, text in {
        "class/thermal/thermal_zone0/temp": "48312\n",
        "class/thermal/thermal_zone1/temp": "51000\n",
        "devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "2400000\n",
        "devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text)
    assert read_sensors(tmp_path) == Sensors(celsius=51.0, mhz=(2400.0,), throttled=0x50005)


def test_prediction_and_measurement_of_this_machine(model: binhdan.Model) -> None:
    """The figures themselves depend on the machine: `binhdan bench predict --here` prints their ratio."""
    with binhdan.load(model.path, threads=1, prefix_cache=False) as loaded:
        result = check(loaded, 32)
    assert result.predicted.prefill_tokens_per_s > 0 and result.decode_tokens_per_s > 0
    assert "ratio" in check_table(result)
