"""runtime/structured/grammar_trial.py and grammar_child.py: a grammar is tried in a child process."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from masks import sample

import binhdan
from binhdan.runtime.structured.constraints import Constraints, regex
from binhdan.runtime.structured.grammar_trial import TOO_MUCH, GrammarTrial


def nested(n: int) -> dict[str, Any]:
    """Returns a schema of n definitions that expands to 2^n: each contains the previous one twice in an
    allOf."""
    definitions: dict[str, Any] = {"d0": {"type": "string", "pattern": "a.*"}}
    for i in range(1, n):
        definitions[f"d{i}"] = {"allOf": [{"$ref": f"#/$defs/d{i - 1}"}, {"$ref": f"#/$defs/d{i - 1}"}]}
    return {"$defs": definitions, "$ref": f"#/$defs/d{n - 1}"}


def simple(text: str) -> list[dict[str, Any]]:
    return [{"name": "a", "lark_grammar": f'start: "{text}"'}]


def test_results_of_trials() -> None:
    trial = GrammarTrial()
    try:
        assert trial.check(simple("a")) == simple("a")
        gbnf = trial.check([{"name": "a", "gbnf": 'root ::= "a"'}])
        assert isinstance(gbnf, list) and "start" in gbnf[0]["lark_grammar"]
        assert "start" in str(trial.check([{"name": "a", "lark_grammar": "x: y"}]))
    finally:
        trial.close()


def test_results_are_cached() -> None:
    trial = GrammarTrial()
    bad = [{"name": "a", "lark_grammar": "x: y"}]
    first = trial.check(simple("a")), trial.check(bad)
    process = trial._process
    trial.close()
    assert (trial.check(simple("a")), trial.check(bad)) == first
    assert trial._process is None and process is not None and process.poll() is not None


def test_a_grammar_that_kills_the_process_is_too_expensive() -> None:
    trial = GrammarTrial()
    try:
        assert trial.check([{"name": "a", "json_schema": nested(40)}]) == TOO_MUCH
        assert trial.check(simple("b")) == simple("b")
    finally:
        trial.close()


def test_a_killed_process_is_restarted() -> None:
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


def test_threads_share_one_process(model: binhdan.Model) -> None:
    constraints = Constraints(model)
    try:
        constraints.prepare()  # start the process first: a trial's time limit is shorter than the start
        with ThreadPoolExecutor(8) as pool:
            compiled = list(pool.map(lambda i: constraints.compile(regex(f"số {i % 5}")), range(40)))
        texts = [sample(model, constraint, 0)[0].decode() for constraint in compiled]
        assert texts == [f"số {i % 5}" for i in range(40)]
    finally:
        constraints.close()
