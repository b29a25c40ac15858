"""`binhdan batch --ray`: a file of requests on the machines of a Ray cluster, with Ray Data.

One process reads the requests and writes the results, as on one machine, so that a run which is killed
continues. Ray Data moves the requests to workers, each with an engine, and repeats those of lost machines.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data

from binhdan.runtime.errors import BinhdanError
from binhdan.runtime.server.app import create_app
from binhdan.runtime.server.batch import Counts, answer_to, finished, opened, read_ids, requests_of, write
from binhdan.runtime.server.config import ServerConfig

# Times max_concurrent: requests that a worker gets at once. They are one object of Ray's store, because Ray
# passes on the results of an object together: a killed run loses the work on those that are in progress.
_BATCHES = 4


class _Worker:
    """An engine. Ray Data calls it with one batch after the other."""

    def __init__(self, config: ServerConfig, max_concurrent: int) -> None:
        self._app = create_app(config)
        self._max_concurrent = max_concurrent
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._loop.run_until_complete(self._start())

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        requests = [json.loads(line) for line in batch["request"]]
        return {"result": self._loop.run_until_complete(self._answers(requests))}

    async def _start(self) -> None:
        # The dispatcher of a model belongs to the loop in which the application starts.
        await self._stack.enter_async_context(self._app.router.lifespan_context(self._app))
        pool = self._app.state.server.pool
        while not pool.ready:
            if pool.failed is not None:
                raise BinhdanError(str(pool.failed))
            await asyncio.sleep(0.02)

    async def _answers(self, requests: list[dict[str, Any]]) -> list[str]:
        places = asyncio.Semaphore(self._max_concurrent)

        async def one(request: dict[str, Any]) -> str:
            async with places:
                return json.dumps(await answer_to(self._app, request), ensure_ascii=False)

        return await asyncio.gather(*map(one, requests))


def run_batch_on_ray(
    config: ServerConfig,
    source: Path,
    output: Path,
    max_concurrent: int,
    address: str,
    on_done: Callable[[Counts], None] = lambda counts: None,
) -> Counts:
    """As `run_batch`, with workers on the cluster at `address`; "local" starts one on this machine.

    Each worker takes config.threads CPUs of the cluster, 1 by default, and runs `max_concurrent` requests.
    """
    threads = config.threads or 1
    config = config.model_copy(update={"threads": threads})
    counts = Counts()
    ids = read_ids(source)
    with opened(output) as file:
        done = finished(file, output)
        counts.skipped = sum(one in done for one in ids)
        _connect(address)
        size = _BATCHES * max_concurrent
        try:
            blocks = [ray.put(block) for block in _blocks(source, done, size)]
            if blocks:
                workers = max(1, int(ray.cluster_resources().get("CPU", 1) // threads))
                results = ray.data.from_arrow_refs(blocks).map_batches(
                    _Worker,
                    fn_constructor_args=(config, max_concurrent),
                    batch_size=size,
                    compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
                    num_cpus=threads,
                )
                for row in results.iter_rows():
                    line = json.loads(row["result"])
                    if line["custom_id"] not in done:  # perhaps computed twice, on a machine that was lost
                        done.add(line["custom_id"])
                        write(file, line, counts)
                        on_done(counts)
        except ray.exceptions.RayError as error:
            raise BinhdanError(f"the run on the cluster failed: {error}") from error
        finally:
            ray.shutdown()
        os.fsync(file.fileno())
    return counts


def _connect(address: str) -> None:
    """Connects to a cluster, or starts one on this machine. Raises BinhdanError."""
    new: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, logging_level="error", **new)
    except Exception as error:  # Ray has no common class for these
        raise BinhdanError(f"cannot use Ray at {address}: {error}") from error


def _blocks(source: Path, done: set[str], size: int) -> Iterator[pa.Table]:
    """Tables of up to `size` requests without results."""
    left = (json.dumps(request) for _, request in requests_of(source) if request["custom_id"] not in done)
    while block := list(itertools.islice(left, size)):  # itertools.batched comes with Python 3.12
        yield pa.table({"request": block})
