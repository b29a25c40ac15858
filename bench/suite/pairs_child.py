"""`python -m binhdan.bench.suite.pairs_child JOB`: runs one engine of a comparison.

The first line of output describes the engine. Afterwards each line of JSON on standard input requests one
trial, or greedy answers, and one line of output holds the result. The process sleeps between requests, so
that the other engine can be measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import binhdan
from binhdan.bench.load.chat_client import ChatClient
from binhdan.bench.load.event_loop import run_loop
from binhdan.bench.suite import quality
from binhdan.bench.suite.cases import Case
from binhdan.bench.suite.engines import LLAMA_CPP_PYTHON, Engine, InProcess, LlamaCpp, Server
from binhdan.bench.suite.machine_probe import commit_of, sha256_of
from binhdan.bench.suite.result import Arrival
from binhdan.bench.suite.summary import trial_of
from binhdan.bench.suite.trial import TrialRunner
from binhdan.bench.suite.workloads import load_workload, load_workloads
from binhdan.runtime.client.model import Model, find_model
from binhdan.runtime.ffi import library
from binhdan.runtime.options import LoadOptions


async def main(job: dict[str, Any]) -> None:
    workloads = load_workloads(job["workloads"])
    async with opened(job) as (engine, facts):
        runner = TrialRunner(engine, workloads, job["seed"])
        await runner.prepare()
        write(facts | {"with_prefix": runner.with_prefix()})
        gc.collect()
        gc.freeze()
        while line := await asyncio.to_thread(sys.stdin.readline):
            request = json.loads(line)
            if "answers" in request:
                write(await answers(engine, request["answers"]))
            else:
                write(await run_trial(runner, request))


@contextlib.asynccontextmanager
async def opened(job: dict[str, Any]) -> AsyncIterator[tuple[Engine, dict[str, Any]]]:
    """The engine, and the facts about it that pairs.Side holds."""
    peer = job["peer"]
    if peer is not None and peer != LLAMA_CPP_PYTHON:
        async with ChatClient(peer) as client:
            server = await Server.connect(client, job["model"] if is_model_name(job["model"]) else None)
            yield server, {"engine": "OpenAI's API", "model": server.model}
        return
    path = find_model(job["model"])
    options = LoadOptions(threads=job["threads"], isa=job["isa"], max_sequences=job["sequences"])
    of_model = {"model": path.name, "model_sha256": sha256_of(path)}
    with Model(path, options) as model:
        core = library()
        if peer == LLAMA_CPP_PYTHON:
            llama = LlamaCpp(path, model, job["threads"] or core.usable_cores())
            yield llama, {"engine": llama.version, **of_model}
            return
        facts = {
            "engine": f"binhdan {core.version()} {model.info.isa}",
            "engine_sha256": sha256_of(core.path),
            "commit": commit_of(),
        }
        yield InProcess(model), facts | of_model


def is_model_name(model: str | None) -> bool:
    """Whether `model` names a model of a server, not a local file."""
    return model is not None and not model.endswith(".gguf")


async def run_trial(runner: TrialRunner, request: dict[str, Any]) -> dict[str, Any]:
    case = Case(request["workload"], Arrival(kind="closed", users=request["users"]), request["prefix"])
    questions = await runner.questions_of(case)
    timed, seconds = await runner.run(questions, case.arrival, request["round"])
    failed = [answer.error for answer in timed if answer.error is not None]
    if failed:
        raise binhdan.BinhdanError(f"{case.workload}: {failed[0]}")
    return trial_of(timed, seconds, None).model_dump()


async def answers(engine: Engine, each: int) -> list[dict[str, Any]]:
    diacritics, others = load_workload("diacritics").turns, load_workload("short").turns
    return [one.model_dump() for one in await quality.answer_all(engine, diacritics, others, each)]


def write(value: Any) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    try:
        run_loop(main(json.loads(sys.argv[1])))
    except Exception as error:
        sys.exit(str(error))
