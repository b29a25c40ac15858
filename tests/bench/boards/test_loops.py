"""bench/boards/loops: the inner loops that are found in assembly, and the rates that predictions use."""

from __future__ import annotations

from pathlib import Path

import pytest

from binhdan.bench.boards.loops import innermost_loops
from binhdan.bench.boards.predict import BLOCK_MACS, LOOPS
from binhdan.bench.common.results import Results, load_results

RESULTS = Path(__file__).parents[3] / "bench" / "results" / "arm-loops.json"
ASSEMBLY = """
_Z6matmulILNS_5DTypeE2EEvv:
\tmov\tx0, 0
.L1:
\tmov\tx1, 0
.L2:
\tldr\tq0, [x2]
\tsdot\tv1.4s, v0.16b, v2.4b[0]
\tsdot\tv3.4s, v0.16b, v2.4b[1]
\tcmp\tx1, x3
\tbne\t.L2
\tsdot\tv4.4s, v0.16b, v2.4b[2]
\tcbnz\tx0, .L1
.L3:
\tadd\tx0, x0, 1
\tb.ne\t.L3
\tret
_Z6matmulILNS_5DTypeE8EEvv:
.L2:
\tsdot\tv1.4s, v0.16b, v2.4b[0]
\tbne\t.L2
"""


@pytest.fixture(scope="module")
def results() -> Results:
    if not RESULTS.exists():
        pytest.skip("bench/results/ is not in an installed package")
    return load_results(RESULTS)


def test_only_innermost_loops_with_products() -> None:
    (loop,) = innermost_loops(ASSEMBLY, 2, {"sdot": 16})
    assert loop.macs == 32
    assert [line.split()[0] for line in loop.instructions] == ["ldr", "sdot", "sdot", "cmp"]


def test_loops_of_the_type_only() -> None:
    (loop,) = innermost_loops(ASSEMBLY, 8, {"sdot": 16})
    assert loop.macs == 16
    assert innermost_loops(ASSEMBLY, 80, {"sdot": 16}) == []


@pytest.mark.parametrize(("core", "isa"), [("cortex-a72", "neon"), ("cortex-a76", "neon_dotprod")])
def test_predictions_use_the_analyzed_loops(results: Results, core: str, isa: str) -> None:
    rows = [row for row in results.rows if row["isa"] == f"`{isa}`"]
    analyzed = {row["type"]: (float(row["macs"]), float(row["decode_cycles"])) for row in rows}  # type: ignore[arg-type]
    used = {name: (loop.prefill, round(BLOCK_MACS / loop.decode)) for name, loop in LOOPS[core].items()}
    assert used == analyzed
