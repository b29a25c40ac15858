"""bench/plan/service.py: the speeds of a board from result files, including one of a real server."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import bench_results
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import serving

import binhdan
from binhdan.bench.common.arrivals import Closed
from binhdan.bench.common.output import to_json
from binhdan.bench.load.chat_client import ChatClient
from binhdan.bench.load.event_loop import run_loop
from binhdan.bench.load.generator import run_load
from binhdan.bench.load.prompts import Sizes, calibrate
from binhdan.bench.plan.service import Level, MeasuredService, load_service, parse_service
from binhdan.bench.suite.result import save_result

MEASURED = Path(__file__).parents[3] / "examples" / "plan" / "measured.json"
COMPARISON = json.loads(MEASURED.read_text("utf-8"))


def test_the_example() -> None:
    service = load_service(MEASURED)
    assert (service.server, service.model, service.answer_tokens) == ("binhdan", "qwen2-0.5b-Q4_0.gguf", 128)
    assert service.machine == "Intel(R) Xeon(R) Processor, 2 usable cores"
    assert [level.concurrency for level in service.levels] == [1, 16]
    speeds = service.speeds()
    assert len(speeds) == 16
    # The tokens per second of docs/performance.md.
    assert 128 * speeds[0] == pytest.approx(57.9, abs=0.1) and 128 * speeds[15] == pytest.approx(280, abs=1)
    assert speeds[1] - speeds[0] == pytest.approx((speeds[15] - speeds[0]) / 15)
    assert fmean(service.work()) == pytest.approx(1) and max(service.work()) < 1.02  # one user: all alike


def test_a_real_servers_loads(tmp_path: Path) -> None:
    """The output of 'bench load run --json' is a valid input."""

    async def measure(url: str) -> list[dict[str, Any]]:
        async with ChatClient(url) as client:
            chats = await calibrate(client, Sizes(system=0, question=8, answer=8), seed=0)
            return [
                asdict(await run_load(client, chats, Closed(users=users, requests=2))) for users in (1, 3)
            ]

    with serving() as url:
        loads = run_loop(measure(url))
    path = tmp_path / "load.json"
    path.write_text(to_json(loads), "utf-8")
    service = load_service(path, "ours")
    assert service.server == "ours" and [level.concurrency for level in service.levels] == [1, 3]
    assert service.levels[0].answers_per_s == pytest.approx(loads[0]["answers"] / loads[0]["seconds"])
    latency = loads[1]["end_to_end_s"]
    within = service.levels[1].seconds[50] - latency["p50"]
    assert 0 <= within + 1e-9 <= 0.05 * (latency["p95"] - latency["p50"]) + 2e-9
    assert len(service.speeds()) == 3 and service.answer_tokens == 8


def levels(*figures: tuple[int, float]) -> tuple[Level, ...]:
    return tuple(Level(concurrency, speed, (1.0,)) for concurrency, speed in figures)


def service(*figures: tuple[int, float]) -> MeasuredService:
    return MeasuredService(server="", model="", machine="", answer_tokens=None, levels=levels(*figures))


@given(
    counts=st.sets(st.integers(1, 300), min_size=1, max_size=6),
    speeds=st.lists(st.floats(1e-3, 1e3), min_size=6, max_size=6),
)
def test_speeds_include_the_measured_levels(counts: set[int], speeds: list[float]) -> None:
    figures = list(zip(sorted(counts), sorted(speeds), strict=False))
    found = service(*figures).speeds()
    assert len(found) == figures[-1][0]
    assert all(less <= more * (1 + 1e-9) for less, more in pairwise(found))
    for count, speed in figures:
        assert found[count - 1] == speed


def test_speeds_below_the_first_level_are_proportional() -> None:
    assert service((4, 2.0), (6, 2.4)).speeds() == pytest.approx((0.5, 1.0, 1.5, 2.0, 2.2, 2.4))


def test_the_share_of_a_board_in_a_cluster() -> None:
    seconds = (1.0, 2.0)
    cluster = MeasuredService(
        server="cluster",
        model="",
        machine="",
        answer_tokens=None,
        levels=(Level(2, 1.8, seconds), Level(8, 5.0, seconds)),
    )
    board = cluster.per_board(2)
    assert board.levels == (Level(1, 0.9, seconds), Level(4, 2.5, seconds))
    assert cluster.per_board(1) == cluster
    with pytest.raises(
        binhdan.InvalidArgumentError, match="4 boards: expected levels that they divide, got 2"
    ):
        cluster.per_board(4)


def test_runs_of_one_level_are_merged() -> None:
    found = parse_service(COMPARISON)
    runs = [
        load
        for result in COMPARISON["results"]
        for load in result["loads"]
        if load["arrivals"]["users"] == 16
    ]
    rates = [load["answers"] / load["seconds"] for load in runs]
    assert len(rates) == 2 and found.levels[1].answers_per_s == pytest.approx(fmean(rates))
    assert found.levels[1].seconds[0] == pytest.approx(min(load["end_to_end_s"]["p50"] for load in runs))
    assert found.levels[1].seconds[-1] == pytest.approx(max(load["end_to_end_s"]["p99"] for load in runs))


def test_open_loops_are_skipped() -> None:
    """Their concurrency is unknown."""
    loads = [load for result in COMPARISON["results"] for load in result["loads"]]
    open_loop = copy.deepcopy(loads[0]) | {"arrivals": {"rate": 2.0, "requests": 9, "seed": 0}}
    assert len(parse_service([*loads, open_loop]).levels) == 2
    with pytest.raises(binhdan.InvalidArgumentError, match="a load with users"):
        parse_service([open_loop])


def case(workload: str, users: int | None, prefix: str, *trials: tuple[float, list[float]]) -> dict[str, Any]:
    """A case as bench/suite/result.py writes it, without the fields that a plan does not read."""
    kind = "open" if users is None else "closed"
    return {
        "workload": workload,
        "arrival": {"kind": kind, "users": users, "rate": None},
        "prefix": prefix,
        "trials": [
            {"seconds": seconds, "end_to_end_s": times, "failures": 0, "answer_tokens": 10 * len(times)}
            for seconds, times in trials
        ],
    }


SUITE = {
    "schema_version": 2,
    "machine": {"processor": "N100", "cores": 4},
    "identity": {"engine": "binhdan 0.1.0", "model": "tiny.gguf"},
    "cases": [
        case("short", 1, "cold", (8.0, [2.0, 6.0])),
        case("chats", 4, "warm", (10.0, [2.0] * 20), (10.0, [2.0] * 22), (10.0, [2.0] * 30)),
        case("chats", 1, "warm", (4.0, [1.0, 3.0]), (4.0, [2.0, 2.0])),
        case("chats", None, "warm", (4.0, [1.0, 3.0])),
    ],
}


def test_a_result_of_the_suite() -> None:
    found = parse_service(SUITE)  # the workload with the most levels
    assert (found.server, found.model, found.machine) == (
        "binhdan 0.1.0, chats, warm",
        "tiny.gguf",
        "N100, 4 usable cores",
    )
    assert [(level.concurrency, level.answers_per_s) for level in found.levels] == [(1, 0.5), (4, 2.2)]
    assert found.work() == (0.5, 1.0, 1.0, 1.5) and found.answer_tokens == 10
    short = parse_service(SUITE, "short")
    assert short == parse_service(SUITE, "short, cold") and short.speeds() == (0.25,)
    with pytest.raises(
        binhdan.InvalidArgumentError,
        match="no workload 'tools' with a closed loop; there are short, cold; chats",
    ):
        parse_service(SUITE, "tools")
    failed = copy.deepcopy(SUITE)
    failed["cases"][1]["trials"][0]["failures"] = 1  # type: ignore[index]
    with pytest.raises(
        binhdan.InvalidArgumentError,
        match="chats, warm: expected only complete answers in each trial, got 1 failures",
    ):
        parse_service(failed)
    with pytest.raises(binhdan.InvalidArgumentError, match="got schema '1' of an older binhdan"):
        parse_service(SUITE | {"schema_version": 1})
    with pytest.raises(binhdan.InvalidArgumentError, match="compare/1' of an older binhdan: measure again"):
        parse_service(COMPARISON | {"schema": "binhdan.bench.serve.compare/1"})


def test_schemas_are_those_that_the_commands_write() -> None:
    from binhdan.bench.load import compare
    from binhdan.bench.plan import service
    from binhdan.bench.suite import result

    assert (service._COMPARISON_SCHEMA, service._SUITE_SCHEMA) == (compare.SCHEMA, result.SCHEMA_VERSION)


def change(edit: Callable[[Any], object]) -> Any:
    data = copy.deepcopy(COMPARISON)
    edit(data)
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "expected what 'binhdan bench'"),
        ({"schema": "binhdan.bench.soak/1"}, "got schema 'binhdan.bench.soak/1'"),
        ("text", "got schema 'None'"),
        ([], "a load with users"),
        ([1], "loads.0"),
        ([{"arrivals": {"users": 0}}], r"loads.0.arrivals.users: .*greater than or equal to 1"),
        (change(lambda data: data.pop("machine")), "machine: Field required"),
        (change(lambda data: data["results"].clear()), "no server None"),
        (change(lambda data: data["results"][0]["loads"][0].update(seconds=0)), "greater than 0"),
        (change(lambda data: data["results"][0]["loads"][0].update(seconds=float("nan"))), "finite"),
        (change(lambda data: data["results"][0]["loads"][0].update(answers=-1)), "greater than or equal"),
        (
            change(lambda data: data["results"][1]["loads"][0]["failures"].update(busy=3)),
            "16 users: expected only complete answers, got 32 complete answers and 3 failures",
        ),
        (change(lambda data: data["results"][1]["loads"][0].update(end_to_end_s=None)), "measure again"),
        (
            change(lambda data: data["results"][0]["loads"][0]["end_to_end_s"].update(p50=9)),
            "ascending percentiles",
        ),
    ],
)
def test_invalid_results(data: Any, message: str) -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match=message):
        parse_service(data)


def test_an_unknown_server() -> None:
    with pytest.raises(
        binhdan.InvalidArgumentError, match="no server 'ollama' in the comparison; there are binhdan"
    ):
        load_service(MEASURED, "ollama")


@pytest.mark.parametrize(
    "figures", [(), ((2, 1.0), (2, 1.0)), ((0, 1.0),), ((5000, 1.0),), ((1, 0.0),), ((1, float("nan")),)]
)
def test_impossible_levels(figures: tuple[tuple[int, float], ...]) -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match="expected"):
        service(*figures)


def test_files_that_are_not_results(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    for data in (b"", b"\xff\xfe", b"{", b"[" * 100_000, b"nan"):
        path.write_bytes(data)
        with pytest.raises(binhdan.InvalidArgumentError, match="expected a result in JSON"):
            load_service(path)
    path.write_bytes(b" " * ((16 << 20) + 1))
    with pytest.raises(binhdan.BadFormatError, match="at most 16,777,216 bytes, got more"):
        load_service(path)
    with pytest.raises(binhdan.FileReadError, match="no such file"):
        load_service(tmp_path / "nowhere.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100)
@given(data=st.data())
def test_any_result_is_read_or_rejected(data: st.DataObject) -> None:
    """Replaces one value anywhere in the example by any other value."""
    result = copy.deepcopy(COMPARISON)
    node: Any = result
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(node[key], dict | list) and node[key] and data.draw(st.booleans()):
            node = node[key]
            continue
        node[key] = data.draw(json_values)
        break
    try:
        found = parse_service(result)
    except binhdan.InvalidArgumentError:
        return
    assert min(found.speeds()) > 0 and fmean(found.work()) == pytest.approx(1)


def test_a_result_file_of_the_suite(tmp_path: Path) -> None:
    save_result(bench_results.make(seconds=0.1, users=(1, 4)), tmp_path / "a.json")
    found = load_service(tmp_path / "a.json", "documents, warm")
    assert [level.concurrency for level in found.levels] == [1, 4]
    assert found.machine.startswith("Tính <thử> & Co., ")
    assert all(level.answers_per_s > 0 for level in found.levels)
