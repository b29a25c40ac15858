"""disturbance.py, cgroup.py and machine_probe.py on trees of files like those of Linux."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sysfs_tree

import binhdan
from binhdan.bench.common.cgroup import cgroup_cores, cgroup_memory
from binhdan.bench.common.machine import this_machine
from binhdan.bench.suite import disturbance, machine_probe
from binhdan.bench.suite.disturbance import Monitor, Snapshot, snapshot
from binhdan.runtime.ffi import library

CALM = Snapshot(
    total=100.0,
    busy=20.0,
    steal=1.0,
    own=10.0,
    mhz=2000.0,
    throttled=5,
    quota_throttled=0.0,
    swapped=7,
)


def report(*seen: Snapshot, **options: object) -> list[str]:
    taken: Iterator[Snapshot] = iter(seen)
    monitor = Monitor(lambda: next(taken), root=Path("/nowhere"))
    for _ in seen[1:]:
        monitor.sample()
    return [finding.kind for finding in monitor.report(**options).findings]  # type: ignore[arg-type]


def later(**changes: object) -> Snapshot:
    """A snapshot after 200 s more of CPU time, all of it of this process."""
    return replace(CALM, **{"total": 300.0, "busy": 210.0, "own": 200.0} | changes)  # type: ignore[arg-type]


def test_a_calm_machine_has_no_findings() -> None:
    assert report(CALM, later()) == []


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"steal": 4.0}, "steal"),
        ({"own": 190.0}, "others"),
        ({"throttled": 6}, "throttling"),
        ({"mhz": 1800.0}, "frequency"),
        ({"quota_throttled": 0.5}, "quota"),
        ({"swapped": 8}, "swapping"),
    ],
)
def test_disturbances_are_found(changes: dict[str, object], kind: str) -> None:
    middle = later(total=200.0, busy=115.0, own=105.0)
    assert report(CALM, middle, middle, later(**changes)) == [kind]


@pytest.mark.parametrize("changes", [{"steal": 2.0}, {"own": 196.0}, {"mhz": 1950.0}])
def test_changes_below_the_limits_have_no_findings(changes: dict[str, object]) -> None:
    assert report(CALM, later(), later(**changes)) == []


def test_noise_of_the_rounds_counts() -> None:
    assert report(CALM, later(), noise=0.029) == []
    assert report(CALM, later(), noise=0.031) == ["noise"]


def test_a_server_process_does_not_count_as_other_process() -> None:
    assert report(CALM, later(own=20.0), count_others=False) == []


def test_unknown_values_are_none() -> None:
    blind = Snapshot(None, None, None, 0.0, None, None, None, None)
    monitor = Monitor(lambda: blind, root=Path("/nowhere"))
    monitor.sample()
    facts = monitor.report()
    assert facts.steal_share is facts.others_share is facts.throttled_events is facts.mhz_first is None
    assert facts.swapped_pages is facts.load_before is None and not facts.disturbed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree of a machine with four cores; tests use two of them."""
    lines = ["cpu 0 0 0 0 0 0 0 0 0 0"]
    lines += [f"cpu{core} 100 200 300 1000 50 1 2 {40 * core} 0 0" for core in range(4)]
    sysfs_tree.write(tmp_path / "proc", stat="\n".join(lines), loadavg="0.50 0.40 0.30 1/99 1234")
    sysfs_tree.write(tmp_path / "proc", vmstat="nr_free_pages 1\npswpin 3\npswpout 4")
    for core in range(4):
        cpu = tmp_path / f"sys/devices/system/cpu/cpu{core}"
        sysfs_tree.write(
            cpu / "cpufreq", scaling_cur_freq=1_000_000 * (core + 1), scaling_governor="ondemand"
        )
        sysfs_tree.write(cpu / "cpufreq", cpuinfo_max_freq=2_400_000)
        sysfs_tree.write(cpu / "thermal_throttle", core_throttle_count=core, package_throttle_count=1)
    group = tmp_path / "sys/fs/cgroup/a/b"
    sysfs_tree.write(tmp_path / "proc/self", cgroup="0::/a/b")
    sysfs_tree.write(group, **{"cpu.stat": "usage_usec 9\nthrottled_usec 1500000", "cpu.max": "max 100000"})
    sysfs_tree.write(group.parent, **{"cpu.max": "150000 100000", "memory.max": "max"})
    sysfs_tree.write(group, **{"memory.max": 1 << 30})
    return tmp_path


def test_snapshot_reads_only_the_usable_cores(root: Path) -> None:
    tick = os.sysconf("SC_CLK_TCK")
    seen = snapshot(root, cores=[1, 2])
    assert seen.busy == 2 * 603 / tick and seen.steal == 120 / tick
    assert seen.total == (2 * (603 + 1050) + 120) / tick
    assert seen.mhz == 2500 and seen.throttled == 1 + 1 + 2 + 1
    assert seen.quota_throttled == 1.5 and seen.swapped == 7
    assert disturbance.load_average(root) == 0.5


def test_throttling_bits_of_a_raspberry_pi(root: Path) -> None:
    firmware = root / "sys/devices/platform/soc/soc:firmware"
    sysfs_tree.write(firmware, get_throttled="0")
    before = snapshot(root, cores=[0])
    sysfs_tree.write(firmware, get_throttled="50005")  # low voltage and throttled: now, and since the start
    after = snapshot(root, cores=[0])
    assert before.throttled == 1 and after.throttled == 5


def test_limits_of_control_groups(root: Path) -> None:
    assert cgroup_cores(root) == 1.5 and cgroup_memory(root) == 1 << 30
    assert cgroup_cores(root / "nowhere") is cgroup_memory(root / "nowhere") is None


def test_limits_of_control_groups_of_version_1(tmp_path: Path) -> None:
    sysfs_tree.write(tmp_path / "proc/self", cgroup="4:memory:/c\n3:cpu,cpuacct:/c\n1:name=systemd:/\n0::/")
    group = tmp_path / "sys/fs/cgroup/cpu,cpuacct/c"
    sysfs_tree.write(group, **{"cpu.cfs_quota_us": 50_000, "cpu.cfs_period_us": 100_000})
    sysfs_tree.write(group, **{"cpu.stat": "nr_periods 1\nthrottled_time 2000000000"})
    sysfs_tree.write(tmp_path / "sys/fs/cgroup/memory/c", **{"memory.limit_in_bytes": 2 << 30})
    sysfs_tree.write(tmp_path / "sys/fs/cgroup/memory", **{"memory.limit_in_bytes": 9223372036854771712})
    assert cgroup_cores(tmp_path) == 0.5 and cgroup_memory(tmp_path) == 2 << 30
    assert snapshot(tmp_path, cores=[0]).quota_throttled == 2.0


@pytest.mark.parametrize("garbage", ["", "cpu0 1 2", "\xff\xfe", "x" * 10_000])
def test_garbage_is_unknown(tmp_path: Path, garbage: str) -> None:
    sysfs_tree.write(tmp_path / "proc", stat=garbage, vmstat=garbage, loadavg=garbage, meminfo=garbage)
    sysfs_tree.write(tmp_path / "proc/self", cgroup=garbage)
    seen = snapshot(tmp_path, cores=[0])
    assert seen.total is seen.busy is seen.steal is seen.mhz is seen.throttled is seen.swapped is None
    assert disturbance.load_average(tmp_path) is None and machine_probe.meminfo(tmp_path) == {}


def test_snapshots_cost_little() -> None:
    monitor = Monitor()
    start = time.thread_time()
    for _ in range(20):
        monitor.sample()
    assert monitor.cost <= time.thread_time() - start + 0.05
    assert monitor.cost / 21 < 0.05


def test_probe_of_this_machine() -> None:
    isa = binhdan.load().info.isa
    probed, machine = machine_probe.probe(isa, 1), this_machine()
    assert machine.cores == library().usable_cores() and isa in machine.kernels
    assert [one.threads for one in probed.bandwidth] == [1] and probed.bandwidth[0].gb_per_s > 0.5
    assert all(gops > 0 for gops in probed.peaks.values())
    with pytest.raises(binhdan.InvalidArgumentError, match="sse9"):
        machine_probe.probe("sse9", 1)


def test_facts_about_the_machine(root: Path) -> None:
    assert machine_probe.governor(root) == "ondemand" and machine_probe.max_mhz(root) == 2400
    sysfs_tree.write(root / "sys/devices/system/cpu/cpu2/cpufreq", scaling_governor="performance")
    assert machine_probe.governor(root) == "ondemand,performance"
    sysfs_tree.write(root / "proc", meminfo="MemTotal:  100 kB\nMemAvailable:  50 kB\nHugePages_Total: 0")
    assert machine_probe.meminfo(root) == {"MemTotal": 102_400, "MemAvailable": 51_200}
    assert machine_probe.virtual(root) is None
    sysfs_tree.write(root / "proc", cpuinfo="flags\t\t: fpu avx2 hypervisor lahf_lm")
    assert machine_probe.virtual(root) is True
    sysfs_tree.write(root / "proc", cpuinfo="flags\t\t: fpu avx2")
    assert machine_probe.virtual(root) is False


def test_commits_of_a_checkout(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    assert machine_probe.commit_of(tmp_path) is None
    git("init")
    assert machine_probe.commit_of(tmp_path) is None
    (tmp_path / "other").write_text("a")
    git("add", "other")
    git("commit", "-m", "other")
    assert machine_probe.commit_of(tmp_path) is None  # a checkout of another project
    (tmp_path / "machine_probe.py").write_text("a")
    git("add", "machine_probe.py")
    git("commit", "-m", "ours")
    commit = machine_probe.commit_of(tmp_path)
    assert commit is not None and len(commit) == 40
    (tmp_path / "machine_probe.py").write_text("b")
    assert machine_probe.commit_of(tmp_path) == commit + "+"


def test_hashes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert machine_probe.sha256_of(tmp_path / "a").startswith("ba7816bf8f01cfea")
    with pytest.raises(binhdan.FileReadError, match="no such file"):
        machine_probe.sha256_of(tmp_path / "b")
