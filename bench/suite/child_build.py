"""`python -m binhdan.bench.suite.child_build JOB`: one engine under test, asked when it is told to.

A line of JSON comes on standard input for each visit to a cell, a line goes out for each result; the first
line out says who this is. Between visits the process sleeps, so that another engine can be measured then.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import binhdan
from binhdan.bench.load.chat_client import ChatClient
from binhdan.bench.load.event_loop import run_loop
from binhdan.bench.suite import quality
from binhdan.bench.suite.cases import Settings, Spot
from binhdan.bench.suite.llama_cpp_python import LlamaCpp
from binhdan.bench.suite.pairs import LLAMA_CPP_PYTHON
from binhdan.bench.suite.probe import commit_of, sha256_of
from binhdan.bench.suite.result import Arrival
from binhdan.bench.suite.run import open_server, with_workloads
from binhdan.bench.suite.summary import round_of
from binhdan.bench.suite.targets import InProcess, Target
from binhdan.bench.suite.visitor import Visitor
from binhdan.bench.suite.workloads import load_workload
from binhdan.runtime.client.model import Model, find_model
from binhdan.runtime.ffi import library
from binhdan.runtime.options import LoadOptions


async def main(job: dict[str, Any]) -> None:
    settings, workloads = with_workloads(Settings(workloads=tuple(job["workloads"]), seed=job["seed"]))
    async with opened(job) as (target, who):
        visitor = Visitor(target, workloads, settings.seed)
        await visitor.prepare()
        say(who | {"with_prefix": visitor.with_prefix()})
        gc.collect()
        gc.freeze()
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked = json.loads(line)
            say(await (answers(target, asked["answers"]) if "answers" in asked else visit(visitor, asked)))


@contextlib.asynccontextmanager
async def opened(job: dict[str, Any]) -> AsyncIterator[tuple[Target, dict[str, Any]]]:
    """The engine, and who it is."""
    peer = job["peer"]
    if peer is not None and peer != LLAMA_CPP_PYTHON:
        async with ChatClient(peer) as client:
            server = await open_server(client, job["model"] if is_name(job["model"]) else None)
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
        who = {
            "engine": f"binhdan {core.version()} {model.info.isa}",
            "engine_sha256": sha256_of(core.path),
            "commit": commit_of(Path(__file__).parents[1]),
        }
        yield InProcess(model), who | of_model


def is_name(model: str | None) -> bool:
    """Of a server's model, not of a file here."""
    return model is not None and not model.endswith(".gguf")


async def visit(visitor: Visitor, asked: dict[str, Any]) -> dict[str, Any]:
    spot = Spot(asked["workload"], Arrival(kind="closed", users=asked["users"]), asked["prefix"])
    questions = await visitor.ready(spot)
    samples, seconds = await visitor.visit(questions, spot.arrival, asked["turn"])
    failed = [sample.error for sample in samples if sample.error is not None]
    if failed:
        raise binhdan.BinhdanError(f"{spot.workload}: {failed[0]}")
    return round_of(samples, seconds, None).model_dump()


async def answers(target: Target, each: int) -> list[dict[str, Any]]:
    diacritics, others = load_workload("diacritics").turns, load_workload("short").turns
    return [one.model_dump() for one in await quality.answer_all(target, diacritics, others, each)]


def say(what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    try:
        run_loop(main(json.loads(sys.argv[1])))
    except Exception as error:
        sys.exit(str(error))
