"""`python -m binhdan.bench.suite.child_build JOB`: one build under test, which visits cells when it is told.

A line of JSON comes on standard input for each visit, a line goes out for each result; the first line out
says who this is. Between visits the process sleeps, so that another build can be measured meanwhile.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from pathlib import Path
from typing import Any

from binhdan.bench.probe import commit_of, sha256_of
from binhdan.bench.result import Arrival
from binhdan.bench.serving.loop import run as run_loop
from binhdan.bench.suite.plan import Settings, Spot
from binhdan.bench.suite.run import with_workloads
from binhdan.bench.suite.summary import round_of
from binhdan.bench.suite.targets import InProcess
from binhdan.bench.suite.visitor import Visitor
from binhdan.runtime.library import library
from binhdan.runtime.model import Model, find_model
from binhdan.runtime.options import LoadOptions

import binhdan


async def main(job: dict[str, Any]) -> None:
    settings, workloads = with_workloads(Settings(workloads=tuple(job["workloads"]), seed=job["seed"]))
    path = find_model(job["model"])
    options = LoadOptions(threads=job["threads"], isa=job["isa"], max_sequences=job["sequences"])
    with Model(path, options) as model:
        visitor = Visitor(InProcess(model), workloads, settings.seed)
        await visitor.prepare()
        core = library()
        who = {
            "engine": f"binhdan {core.version()} {model.info.isa}",
            "engine_sha256": sha256_of(core.path),
            "commit": commit_of(Path(__file__).parents[1]),
            "model": path.name,
            "model_sha256": sha256_of(path),
            "with_prefix": visitor.with_prefix(),
        }
        print(json.dumps(who), flush=True)
        gc.collect()
        gc.freeze()
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked = json.loads(line)
            spot = Spot(asked["workload"], Arrival(kind="closed", users=asked["users"]), asked["prefix"])
            questions = await visitor.ready(spot)
            samples, seconds = await visitor.visit(questions, spot.arrival, asked["turn"])
            failed = [sample.error for sample in samples if sample.error is not None]
            if failed:
                raise binhdan.BinhdanError(f"{spot.workload}: {failed[0]}")
            print(round_of(samples, seconds, None).model_dump_json(), flush=True)


if __name__ == "__main__":
    try:
        run_loop(main(json.loads(sys.argv[1])))
    except Exception as error:
        sys.exit(str(error))
