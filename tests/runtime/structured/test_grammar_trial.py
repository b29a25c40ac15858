"""runtime/structured/grammar_trial.py and grammar_child.py: trials in a process of their own."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from masks import sample

import binhdan
from binhdan.runtime.structured.constraints import (
    Constraints,
    regex,
)
from binhdan.runtime.structured.grammar_trial import TOO_MUCH, GrammarTrial


def nested(n: int) -> dict[str, Any]:
    """Each definition has the one before twice in an allOf: 2^n in all."""
    definitions: dict[str, Any] = {"d0": {"type": "string", "pattern": "a.*"}}
    for i in range(1, n):
        definitions[f"d{i}"] = {"allOf": [{"$ref": f"#/$defs/d{i - 1}"}, {"$ref": f"#/$defs/d{i - 1}"}]}
    return {"$defs": definitions, "$ref": f"#/$defs/d{n - 1}"}


def simple(text: str) -> list[dict[str, Any]]:
    return [{"name": "a", "lark_grammar": f'start: "{text}"'}]


def test_a_trial() -> None:
    trial = GrammarTrial()
    try:
        assert trial.check(simple("a")) == simple("a")
        gbnf = trial.check([{"name": "a", "gbnf": 'root ::= "a"'}])
        assert isinstance(gbnf, list) and "start" in gbnf[0]["lark_grammar"]
        assert "start" in str(trial.check([{"name": "a", "lark_grammar": "x: y"}]))
    finally:
        trial.close()


def test_what_was_tried_is_remembered() -> None:
    trial = GrammarTrial()
    bad = [{"name": "a", "lark_grammar": "x: y"}]
    first = trial.check(simple("a")), trial.check(bad)
    process = trial._process
    trial.close()
    assert (trial.check(simple("a")), trial.check(bad)) == first
    assert trial._process is None and process is not None and process.poll() is not None


def test_what_kills_the_process_is_too_much() -> None:
    trial = GrammarTrial()
    try:
        assert trial.check([{"name": "a", "json_schema": nested(40)}]) == TOO_MUCH
        assert trial.check(simple("b")) == simple("b")
    finally:
        trial.close()


def test_the_process_may_die_at_any_time() -> None:
    trial = GrammarTrial()
    try:
        trial.start()
        for _ in range(3):
            process = trial._process
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            assert isinstance(trial.check(simple(os.urandom(4).hex())), list)
        assert trial._process is not process
    finally:
        trial.close()
        trial.close()
    assert process.poll() is not None


def test_many_threads_share_one(model: binhdan.Model) -> None:
    constraints = Constraints(model)
    try:
        constraints.prepare()  # starting the process takes longer than others wait for a trial
        with ThreadPoolExecutor(8) as pool:
            compiled = list(pool.map(lambda i: constraints.compile(regex(f"số {i % 5}")), range(40)))
        texts = [sample(model, constraint, 0)[0].decode() for constraint in compiled]
        assert texts == [f"số {i % 5}" for i in range(40)]
    finally:
        constraints.close()
