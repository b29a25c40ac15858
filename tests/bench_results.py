"""Results of the suite with invented figures, for tests of the code that reads results."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime

from binhdan.bench.common.machine import Machine
from binhdan.bench.common.statistics import Estimate
from binhdan.bench.suite import result
from binhdan.bench.suite.disturbance import findings
from binhdan.bench.suite.summary import case_result

TEXTS = {"short": "a" * 64, "chats": "b" * 64, "documents": "c" * 64}


def half_width(estimate: Estimate) -> float:
    """Half of the interval's width, as a share of the value."""
    return (estimate.high - estimate.low) / 2 / estimate.value


def trials(seconds: float, count: int = 10, noise: float = 0.02, seed: int = 0) -> list[result.Trial]:
    """Trials of four answers of about `seconds` and 40 tokens each."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        times = [seconds * chance.lognormvariate(0, noise) for _ in range(4)]
        found.append(
            result.Trial(
                seconds=sum(times),
                ttft_s=tuple(0.2 * one for one in times),
                tpot_s=tuple(0.02 * one for one in times),
                end_to_end_s=tuple(times),
                failures=0,
                prompt_tokens=400,
                cached_tokens=0,
                answer_tokens=160,
                characters=600,
                joules=30 * sum(times),
                joules_above_idle=20 * sum(times),
            )
        )
    return found


def price(seconds_busy: float, joules: float | None = None) -> tuple[float, float]:
    return 5 * seconds_busy, 5 * seconds_busy / 26_400


def make(
    name: str = "binhdan 0.1.0 avx2",
    seconds: float = 0.1,
    *,
    noise: float = 0.02,
    seed: int = 0,
    workloads: Sequence[str] = ("short", "chats", "documents"),
    users: Sequence[int] = (1, 4),
    steal: float = 0.0,
    energy: bool = True,
) -> result.Result:
    arrivals = [result.Arrival(kind="closed", users=count) for count in users]
    arrivals.append(result.Arrival(kind="open", rate=3.0))
    cases = [
        case_result(workload, arrival, prefix, trials(seconds * factor, noise=noise, seed=seed + i), price)
        for i, (workload, factor) in enumerate(zip(workloads, (1, 2, 4), strict=False))
        for arrival in arrivals
        for prefix in (("cold",) if workload == "short" else ("cold", "warm"))
    ]
    disturbance = result.Disturbance(
        steal_share=steal,
        others_share=0.0,
        throttled_events=None,
        quota_throttled_s=0.0,
        mhz_first=2000.0,
        mhz_last=2000.0,
        swapped_pages=0,
        load_before=0.1,
        noise=0.01,
        findings=(),
    )
    keys = [case.key for case in cases if case.per_answer]
    phase = {"seconds": 3.0, "joules": 90.0, "joules_above_idle": 60.0}
    return result.Result(
        name=name,
        machine=Machine(
            processor="Tính <thử> & Co.",
            cores=2,
            kernels=("scalar", "avx2"),
            system="Linux 6.1",
        ),
        probe=result.Probe(
            architecture="x86_64",
            libc="glibc 2.36",
            python="3.11.7",
            processors=2,
            cgroup_cores=None,
            cgroup_memory_bytes=None,
            memory_bytes=8 << 30,
            available_bytes=6 << 30,
            governor="performance",
            mhz=2000.0,
            max_mhz=3000.0,
            virtual=False,
            bandwidth=(
                result.Bandwidth(threads=1, gb_per_s=12.0),
                result.Bandwidth(threads=2, gb_per_s=20.0),
            ),
            peaks={"f32": 120.0, "q8": 400.0},
        ),
        identity=result.RunIdentity(
            engine="binhdan 0.1.0",
            engine_sha256="d" * 64,
            compiler="GNU 12.2.0",
            commit="e" * 40,
            isa="avx2",
            options={"threads": 2},
            url=None,
            model="tiny.gguf",
            model_sha256="f" * 64,
            model_bytes=9_222_496,
            parameters=8_393_984,
            context=2048,
            workloads={workload: TEXTS[workload] for workload in workloads},
        ),
        protocol=result.Protocol(
            rounds=10,
            warm_up_rounds=1,
            seed=0,
            threads=2,
            started=datetime(2026, 3, 4, 7, 0, tzinfo=UTC),
            seconds=123.4,
            budget_seconds=200.0,
            measuring_share=0.0004,
            command="binhdan bench run",
        ),
        disturbance=disturbance.model_copy(update={"findings": tuple(findings(disturbance))}),
        cases=tuple(cases),
        left_out=(
            result.LeftOut(
                workload="documents",
                arrival=result.Arrival(kind="closed", users=16),
                prefix="cold",
                reason="no time",
            ),
        ),
        forward_passes=(
            result.ForwardPass(name="prompt of 256", seconds=0.02, gigabytes=0.01, giga_operations=4.5),
            result.ForwardPass(
                name="decode, 1 together", seconds=0.0006, gigabytes=0.009, giga_operations=0.0168
            ),
            result.ForwardPass(
                name="decode, 16 together", seconds=0.002, gigabytes=0.012, giga_operations=0.27
            ),
        ),
        speed_by_depth=tuple(
            result.DepthPoint(
                depth=depth,
                prompt_tokens_per_s=20_000 / (1 + depth / 1000),
                decode_tokens_per_s=1_500 / (1 + depth / 2000),
                decode_limit=2_200 / (1 + depth / 4000),
            )
            for depth in (0, 128, 256, 512, 1024, 1791)
        ),
        cold_start=result.ColdStart(
            runs=10, ready_s=0.2, ttft_s=0.25, answer_s=0.3, peak_rss_bytes=40_000_000
        ),
        peak_rss_bytes=300_000_000,
        energy=result.Energy(
            source="RAPL package-0",
            sampling_hz=1000.0,
            measured=True,
            whole=False,
            idle_watts=10.0,
            idle_min_watts=9.8,
            idle_max_watts=10.3,
            prefill=result.PhaseEnergy(tokens=30_000, **phase),
            decode=result.PhaseEnergy(tokens=3_000, **phase),
        )
        if energy
        else None,
        cost=result.Cost(
            board="Máy thử",
            tariff="EVN household",
            utilisation=0.3,
            basis="Máy thử; 5,000,000 đ over 4 years",
            assumptions=(result.Assumption(name="utilisation", value=0.3, note="of its time"),),
            usd_vnd=26_400.0,
            case=keys[0],
            parts={key: {"hardware": 12.0, "electricity": 5.0, "idle": 7.5} for key in keys},
            sensitivity=tuple(
                result.Sensitivity(
                    utilisation=share,
                    tariff="EVN household",
                    life_years=4.0,
                    vnd_per_1000=7 / share,
                    ratio=0.3 / share,
                )
                for share in (0.1, 0.3, 0.9)
            ),
        ),
        quality=result.Quality(syllables=400, right=360, answers_sha256="0" * 64),
    )
