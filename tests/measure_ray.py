"""Measures a Ray cluster on this machine for docs/national-scale.md, on two quiet cores:

    python tests/measure_ray.py MODEL.gguf        # needs the extra ray

1. Routing: the time of a whole answer of one token of the embedded model, one request at a time, through Ray
   (its proxy, the front, one engine) and from `binhdan serve` on the same cores, in turns.
2. Prefix cache: of the prompt tokens of 16 users that talk at the same time, five turns each after a shared
   system prompt, the share that the caches had, with two engines and with one `binhdan serve`.
3. Throughput: tokens per second of MODEL with one engine pinned to one core, and with two engines pinned to
   one core each, with the same number of users for each engine, who ask again after each answer. All other
   programs, the load generator too, run on the cores of the engines; once more with one engine, they have the
   other core. The output has the share of the engines.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
from ray_cluster import RayCluster, descendants, ray_cluster, wait_until
from serving import QUESTION, serving

BODY: dict[str, Any] = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 1}
REQUESTS = 40  # in a turn
KEYS: Any = {"user": {"key": "key-of-user"}}
HEADERS = {"Authorization": "Bearer key-of-user"}
TURNS = 5


def engine_pids() -> list[int]:
    """The processes of the engines on this machine."""
    found = []
    for pid in descendants(os.getpid()):
        try:
            title = Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace")
        except OSError:
            continue
        if title.startswith("ray::ServeReplica:binhdan:engine"):
            found.append(pid)
    return found


def pin(pid: int, *cores: int) -> None:
    with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
        for task in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(task), cores)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def times(client: httpx.Client, url: str) -> list[float]:
    """Milliseconds of each request of a turn."""
    found = []
    for _ in range(REQUESTS):
        start = time.perf_counter()
        client.post(f"{url}/v1/chat/completions", json=BODY).raise_for_status()
        found.append(1e3 * (time.perf_counter() - start))
    return found


def routing(cluster: RayCluster) -> None:
    direct: list[float] = []
    routed: list[float] = []
    differences = []
    with serving(context=512, keys=KEYS) as url, httpx.Client(timeout=60, headers=HEADERS) as client:
        times(client, url), times(client, cluster.url)  # warm up
        for _ in range(TURNS):
            one, other = times(client, url), times(client, cluster.url)
            differences.append(median(other) - median(one))
            direct += one
            routed += other
    for name, values in (("binhdan serve", direct), ("Ray", routed)):
        p95 = quantiles(values, n=20)[-1]
        print(f"{name:14} p50 {median(values):.2f} ms, p95 {p95:.2f} ms ({len(values)} requests)")
    print(
        f"routing        p50 {median(differences):.2f} ms more ({min(differences):.2f} to "
        f"{max(differences):.2f} in {TURNS} turns)"
    )


SYSTEM = "Bạn là trợ lý của một cửa hàng sách ở Hà Nội. Trả lời ngắn, lịch sự, bằng tiếng Việt. " * 2


def cached_share(url: str) -> float:
    """Of the prompt tokens of 16 conversations at the same time, the share from the prefix cache."""
    counts: list[tuple[int, int]] = []

    def user(number: int) -> None:
        messages = [{"role": "system", "content": SYSTEM}]
        with httpx.Client(timeout=300, headers=HEADERS) as client:
            for turn in range(5):
                messages.append({"role": "user", "content": f"them dau: cau hoi so {number} {turn}"})
                body = {"messages": messages, "max_tokens": 16, "ignore_eos": True}
                answer = client.post(f"{url}/v1/chat/completions", json=body).raise_for_status().json()
                messages.append(answer["choices"][0]["message"])
                usage = answer["usage"]
                counts.append((usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]))

    run_all([threading.Thread(target=user, args=(number,)) for number in range(16)])
    return sum(cached for _, cached in counts) / sum(prompt for prompt, _ in counts)


def prefix(cluster: RayCluster) -> None:
    wait_until(lambda: cluster.engines() == 2, "two engines run")
    shared = cached_share(cluster.url)
    with serving(context=1024, keys=KEYS) as url:
        alone = cached_share(url)
    print(f"prefix cache   {shared:.1%} with two engines, {alone:.1%} with one: {shared / alone:.2f} of it")


def run_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def tokens_per_second(url: str, users: int, tokens: int, seconds: float) -> list[float]:
    """Of `users` that ask for one answer after the other, each of so many tokens, in three windows of time.

    A window is one third of `seconds`, after a first third that warms up. The tokens of an answer are spread
    over its time.
    """
    start = time.monotonic()
    answers: list[tuple[float, float]] = []  # start, end

    def user(number: int) -> None:
        # A client for each user: a new one for each request needs tens of milliseconds of a core.
        with httpx.Client(timeout=600, headers=HEADERS) as client:
            turn = 0
            while time.monotonic() - start < seconds * 4 / 3:
                turn += 1
                body = {
                    "messages": [{"role": "user", "content": f"{number}.{turn} {QUESTION}"}],
                    "max_tokens": tokens,
                    "ignore_eos": True,
                }
                begin = time.monotonic() - start
                client.post(f"{url}/v1/chat/completions", json=body).raise_for_status()
                answers.append((begin, time.monotonic() - start))

    run_all([threading.Thread(target=user, args=(number,)) for number in range(users)])
    third = seconds / 3

    def inside(answer: tuple[float, float], window: int) -> float:
        begin, end = answer
        return max(0.0, min(end, third * (window + 1)) - max(begin, third * window)) / (end - begin)

    return [tokens * sum(inside(answer, window) for answer in answers) / third for window in (1, 2, 3)]


def throughput(
    cluster: RayCluster, engines: int, cores: int, users: int, tokens: int, seconds: float
) -> list[float]:
    """Tokens per second of three windows. `cores`: those of all programs."""
    wait_until(lambda: cluster.engines() == engines, "the engines run")
    pids = engine_pids()
    assert len(pids) == engines, f"expected {engines} processes of engines, got {pids}"
    for pid in (os.getpid(), *descendants(os.getpid())):
        pin(pid, *range(cores))
    for core, pid in enumerate(pids):
        pin(pid, core)
    before, start = [cpu_seconds(pid) for pid in pids], time.monotonic()
    rates = tokens_per_second(cluster.url, users * engines, tokens, seconds)
    elapsed = time.monotonic() - start
    shares = ((cpu_seconds(pid) - one) / elapsed for pid, one in zip(pids, before, strict=True))
    print("engines had    " + ", ".join(f"{share:.0%}" for share in shares) + " of a core")
    return rates


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="GGUF file")
    parser.add_argument("--users", type=int, default=8, help="for each engine")
    parser.add_argument("--tokens", type=int, default=48, help="of an answer")
    parser.add_argument("--seconds", type=float, default=60, help="of a measurement of the throughput")
    options = parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.2f}")
    with ray_cluster(nodes=2) as cluster:
        cluster.serve(1, keys=KEYS)
        routing(cluster)
        cluster.serve(2, keys=KEYS, context=1024)
        prefix(cluster)
        settings: Any = {"models": {"m": str(options.model.resolve())}, "max_sequences": 16, "keys": KEYS}
        rates = {}
        for engines, cores in ((1, 2), (1, 1), (2, 2)):
            cluster.serve(engines, **settings)
            measured = throughput(cluster, engines, cores, options.users, options.tokens, options.seconds)
            rates[engines, cores] = median(measured)
            values = ", ".join(f"{rate:.1f}" for rate in measured)
            print(f"{engines} engine(s)    {values} tokens/s, {options.users} users each, {cores} core(s)")
        print(f"two engines    {rates[2, 2] / rates[1, 1]:.2f} times one on one core")
        print(f"               {rates[2, 2] / rates[1, 2]:.2f} times one whose other programs have a core")
    return 0


if __name__ == "__main__":
    sys.exit(main())
