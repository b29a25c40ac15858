"""Disturbances of a run: stolen CPU time, other processes, throttling, frequency changes, swapping, noise.

The monitor reads Linux's /proc and /sys between rounds, never during a trial. On other systems, and where a
file is missing, a figure is None: unknown, which does not mean undisturbed.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from binhdan.bench.common.cgroup import cgroup_folders
from binhdan.bench.common.files import number_in, text_of
from binhdan.bench.suite.result import Disturbance, Finding

# A run above one of these limits is disturbed. An A/A comparison must agree within 3 %.
MAX_STEAL = 0.01
MAX_OTHERS = 0.03
MAX_SLOWDOWN = 0.05
MAX_NOISE = 0.03

_CPU = re.compile(r"^cpu(\d+)((?: \d+){8})", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counters at one moment. CPU times are seconds of the cores that this process may use."""

    total: float | None
    busy: float | None  # includes the time of this process
    steal: float | None
    own: float  # this process and its finished children
    mhz: float | None
    throttled: int | None
    quota_throttled: float | None
    swapped: int | None


def snapshot(root: Path = Path("/"), *, cores: Iterable[int] | None = None) -> Snapshot:
    """Reads about twelve small files. `cores`: core numbers; None: the cores that this process may use."""
    usable = frozenset(_usable() if cores is None else cores)
    times = _processor_times(text_of(root / "proc/stat"), usable)
    own = os.times()
    return Snapshot(
        total=times[0] if times else None,
        busy=times[1] if times else None,
        steal=times[2] if times else None,
        own=own.user + own.system + own.children_user + own.children_system,
        mhz=frequency(root, usable),
        throttled=_throttled(root, usable),
        quota_throttled=_quota_throttled(root),
        swapped=_swapped(text_of(root / "proc/vmstat")),
    )


def frequency(root: Path = Path("/"), cores: Iterable[int] | None = None) -> float | None:
    """Current mean MHz of the cores."""
    usable = frozenset(_usable() if cores is None else cores)
    khz = [number_in(_cpu(root, core) / "cpufreq/scaling_cur_freq") for core in usable]
    known = [value / 1e3 for value in khz if value is not None]
    if not known:  # virtual machines and old kernels have no cpufreq
        found = re.findall(r"^cpu MHz\s*: ([\d.]+)", text_of(root / "proc/cpuinfo"), re.MULTILINE)
        known = [float(value) for number, value in enumerate(found) if number in usable]
    return sum(known) / len(known) if known else None


class Monitor:
    """Takes snapshots of the machine between rounds. `cost`: CPU seconds that the snapshots took."""

    def __init__(self, take: Callable[[], Snapshot] = snapshot, *, root: Path = Path("/")) -> None:
        self._take = take
        self._snapshots: list[Snapshot] = []
        self.cost = 0.0
        self._load_before = load_average(root)
        self.sample()

    def sample(self) -> None:
        start = time.thread_time()
        self._snapshots.append(self._take())
        self.cost += time.thread_time() - start

    def report(
        self, *, noise: float | None = None, count_others: bool = True, meter: str | None = None
    ) -> Disturbance:
        """Disturbances since the first snapshot. `count_others` False: the engine runs in other processes,
        so their CPU time is no disturbance. `meter`: why the meter failed."""
        first, last = self._snapshots[0], self._snapshots[-1]
        total = _difference(first.total, last.total)
        steal = _share(_difference(first.steal, last.steal), total)
        others = None
        if count_others and (busy := _difference(first.busy, last.busy)) is not None:
            others = _share(max(busy - (last.own - first.own), 0.0), total)
        mhz = [one.mhz for one in self._snapshots[1:] if one.mhz is not None]
        third = max(len(mhz) // 3, 1)
        facts = Disturbance(
            steal_share=steal,
            others_share=others,
            throttled_events=_whole(_difference(first.throttled, last.throttled)),
            quota_throttled_s=_difference(first.quota_throttled, last.quota_throttled),
            mhz_first=sum(mhz[:third]) / third if mhz else None,
            mhz_last=sum(mhz[-third:]) / third if mhz else None,
            swapped_pages=_whole(_difference(first.swapped, last.swapped)),
            load_before=self._load_before,
            noise=noise,
            findings=(),
        )
        found = findings(facts)
        if meter is not None:
            text = f"the meter failed, so there are no energy figures: {meter}"
            found.append(Finding(kind="meter", amount=1.0, text=text))
        return facts.model_copy(update={"findings": tuple(found)})


def findings(facts: Disturbance) -> list[Finding]:
    """The limits that `facts` exceeds."""
    found = []
    if (steal := facts.steal_share or 0.0) > MAX_STEAL:
        text = f"the host gave {steal:.1%} of the processor time to other virtual machines"
        found.append(Finding(kind="steal", amount=steal, text=text))
    if (others := facts.others_share or 0.0) > MAX_OTHERS:
        text = f"other processes took {others:.1%} of the processor time"
        found.append(Finding(kind="others", amount=others, text=text))
    if events := facts.throttled_events:
        text = f"the processor was throttled {events:,} times (too hot, or not enough power)"
        found.append(Finding(kind="throttling", amount=float(events), text=text))
    if facts.mhz_first and facts.mhz_last:
        slowdown = 1 - facts.mhz_last / facts.mhz_first
        if slowdown > MAX_SLOWDOWN:
            text = f"cores slowed down from {facts.mhz_first:,.0f} to {facts.mhz_last:,.0f} MHz"
            found.append(Finding(kind="frequency", amount=slowdown, text=text))
    if (quota := facts.quota_throttled_s or 0.0) > 0:
        text = f"the control group's quota stopped the process for {quota:.1f} s"
        found.append(Finding(kind="quota", amount=quota, text=text))
    if swapped := facts.swapped_pages:
        text = f"{swapped:,} pages were swapped"
        found.append(Finding(kind="swapping", amount=float(swapped), text=text))
    if (noise := facts.noise or 0.0) > MAX_NOISE:
        text = f"rounds differ: the interval of their mean is ± {noise:.1%}, more than {MAX_NOISE:.0%}"
        found.append(Finding(kind="noise", amount=noise, text=text))
    return found


def load_average(root: Path = Path("/")) -> float | None:
    """Load average of the last minute."""
    try:
        return float(text_of(root / "proc/loadavg").split()[0])
    except (IndexError, ValueError):
        return None


def _usable() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _cpu(root: Path, core: int) -> Path:
    return root / f"sys/devices/system/cpu/cpu{core}"


def _processor_times(stat: str, cores: frozenset[int]) -> tuple[float, float, float] | None:
    """Total, busy and steal seconds. Columns by proc(5): user, nice, system, idle, iowait, irq, softirq,
    steal."""
    rows = [list(map(int, row.split())) for core, row in _CPU.findall(stat) if int(core) in cores]
    if not rows:
        return None
    user, nice, system, idle, iowait, irq, softirq, steal = (
        sum(column) for column in zip(*rows, strict=True)
    )
    busy = user + nice + system + irq + softirq
    tick = os.sysconf("SC_CLK_TCK")
    return (busy + idle + iowait + steal) / tick, busy / tick, steal / tick


def _throttled(root: Path, cores: frozenset[int]) -> int | None:
    """Intel's counters, or the number of bits that the Raspberry Pi's firmware has set since its start."""
    counts: list[int | None] = []
    for core in cores:
        folder = _cpu(root, core) / "thermal_throttle"
        counts += [number_in(folder / f"{what}_throttle_count") for what in ("core", "package")]
    bits = text_of(root / "sys/devices/platform/soc/soc:firmware/get_throttled").strip()
    if re.fullmatch(r"(0x)?[0-9a-f]{1,8}", bits):
        # Bits 0 to 3: throttled now; bits 16 to 19: throttled since the start.
        counts.append((int(bits, 16) & 0xF000F).bit_count())
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _quota_throttled(root: Path) -> float | None:
    for folder in cgroup_folders(root, "cpu"):
        text = text_of(folder / "cpu.stat")
        if found := re.search(r"^throttled_usec (\d+)$", text, re.MULTILINE):  # v2
            return int(found[1]) / 1e6
        if found := re.search(r"^throttled_time (\d+)$", text, re.MULTILINE):  # v1, in ns
            return int(found[1]) / 1e9
    return None


def _swapped(vmstat: str) -> int | None:
    counts = re.findall(r"^pswp(?:in|out) (\d+)$", vmstat, re.MULTILINE)
    return sum(map(int, counts)) if counts else None


def _difference(first: float | None, last: float | None) -> float | None:
    return None if first is None or last is None else max(last - first, 0.0)


def _share(part: float | None, whole: float | None) -> float | None:
    return min(part / whole, 1.0) if part is not None and whole else None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
