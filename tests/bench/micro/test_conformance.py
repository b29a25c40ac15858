"""bench/micro/conformance.py: every table of this machine passes, and a wrong table does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from binhdan import InvalidArgumentError, _native
from binhdan.bench.micro import conformance


@pytest.mark.parametrize("isa", _native.isas())
def test_every_table_passes(isa: str) -> None:
    outcomes = conformance.check([isa])
    assert [outcome.operation for outcome in outcomes] == list(conformance.OPERATIONS)
    assert not [outcome for outcome in outcomes if outcome.failures]
    assert "ok" in conformance.table(outcomes)


@pytest.mark.skipif(_native.isas() == ["scalar"], reason="this machine runs the scalar table only")
def test_a_wrong_table_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    right = _native.matmul

    def wrong(isa: str, *arguments: Any) -> Any:
        result = right(isa, *arguments)
        if isa != conformance.ORACLE:
            result[-1, -1] *= np.float32(1.01)
        return result

    monkeypatch.setattr(conformance._native, "matmul", wrong)
    outcomes = {outcome.operation: outcome for outcome in conformance.check([_native.isas()[-1]])}
    assert outcomes["matmul"].failures and not outcomes["rope"].failures
    assert "FAILED" in conformance.table([*outcomes.values()])
    assert "at (" in outcomes["matmul"].failures[0]


def test_an_unknown_table() -> None:
    with pytest.raises(InvalidArgumentError, match="mmx"):
        conformance.check(["mmx"])
