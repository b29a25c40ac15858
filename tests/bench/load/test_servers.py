"""bench/load/{servers,compare}.py: servers start, become ready and end with all their processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest
from sse_app import Script, make_app
from uvicorn_thread import running

import binhdan
from binhdan.bench.common.arrivals import Closed, Open
from binhdan.bench.common.statistics import Spread
from binhdan.bench.load import servers, tables
from binhdan.bench.load.compare import SCHEMA, compare
from binhdan.bench.load.prompts import Sizes

# A server that becomes ready after a while, with a child process that ignores SIGTERM.
PROGRAM = """
import http.server, os, subprocess, sys, time
port, marks = int(sys.argv[1]), sys.argv[2]
requested = []
stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", stubborn])
open(marks, "a").write(f"{os.getpid()} {child.pid}\\n")
memory = bytearray(40 << 20)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        requested.append(self.path)
        status = 200 if len(requested) > 3 else 503
        open(marks + ".requested", "a").write(f"{self.path} {status}\\n")
        self.send_response(status)
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def child(tmp_path: Path, program: str = PROGRAM) -> servers.ChildServer:
    path = tmp_path / "server.py"
    path.write_text(program, "utf-8")
    command = (sys.executable, str(path), "{port}", str(tmp_path / "marks"))
    return servers.ChildServer("scripted", command, ready_path="/ready")


def exists(pid: int) -> bool:
    """Whether the process runs. A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")


@needs_proc
@pytest.mark.parametrize("kill", [False, True])
def test_a_child_becomes_ready_and_ends_with_its_own_children(tmp_path: Path, kill: bool) -> None:
    with child(tmp_path).run() as server:
        pids = list(map(int, (tmp_path / "marks").read_text().split()))
        assert len(pids) == 2 and all(map(exists, pids)) and server.alive
        memory = server.memory()
        assert memory.now is not None and memory.peak is not None and server.descriptors()
        assert 40 << 20 < memory.now <= memory.peak < 1 << 30
        server.end(kill=kill)
        assert not server.alive
    deadline = time.monotonic() + 5
    while any(map(exists, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(exists, pids))
    requested = (tmp_path / "marks.requested").read_text().splitlines()
    assert requested == ["/ready 503"] * 3 + ["/ready 200"]


@needs_proc
def test_an_error_ends_the_child(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="mine"):
        with child(tmp_path).run():
            raise RuntimeError("mine")
    assert not exists(int((tmp_path / "marks").read_text().split()[0]))


def test_a_child_that_ends_at_once(tmp_path: Path) -> None:
    with pytest.raises(
        binhdan.BinhdanError, match="scripted ended during its start; its last output: no luck"
    ):
        with child(tmp_path, "import sys; sys.exit('no luck')").run():
            pass
    with pytest.raises(binhdan.BinhdanError, match="last output: none"):
        with child(tmp_path, "").run():
            pass


def test_a_program_that_does_not_exist() -> None:
    with pytest.raises(binhdan.BinhdanError, match="cannot start /nowhere/server"):
        with servers.ChildServer("x", ("/nowhere/server",)).run():
            pass


def test_commands() -> None:
    ours = servers.binhdan_server(Path("m.gguf"), threads=2, options=("--deterministic",))
    assert ours.command[1:5] == ("-m", "binhdan", "serve", "m.gguf") and ours.command[-1] == "--deterministic"
    assert ours.command[-3:-1] == ("--threads", "2") and "{port}" in ours.command
    theirs = servers.llama_server("/bin/llama-server -c 4096", Path("m.gguf"), threads=2)
    assert theirs.command[0] == "/bin/llama-server" and theirs.command[-2:] == ("-c", "4096")
    text = " ".join(theirs.command)
    assert "-t 2 -c 32768 --parallel 16 --chat-template chatml" in text and theirs.ready_path == "/health"
    with pytest.raises(binhdan.InvalidArgumentError):
        servers.llama_server("", Path("m.gguf"), threads=2)
    assert servers.remote_servers(["a=http://h/v1"]) == [servers.RemoteServer("a", "http://h/v1")]
    for wrong in ("http://h", "=http://h", "a=h", ""):
        with pytest.raises(binhdan.InvalidArgumentError, match="LABEL=URL"):
            servers.remote_servers([wrong])


# ---- comparison --------------------------------------------------------------------------------------------


@dataclass
class Scripted:
    """A server within this process that follows a script and records its turns."""

    name: str
    record: list[str]
    script: Script = field(default_factory=Script)
    scripts: list[Script] = field(default_factory=list)  # for the turns after the first
    peak: int | None = 1000

    @contextmanager
    def run(self) -> Iterator[Scripted]:
        self.record.append(f"+{self.name}")
        with running(make_app(self.script)) as self.url:
            yield self
        self.record.append(f"-{self.name}")
        if self.scripts:
            self.script = self.scripts.pop(0)

    def memory(self) -> servers.Memory:
        return servers.Memory(self.peak, self.peak)


SIZES = Sizes(system=20, question=10, answer=4)


def test_servers_take_turns_and_ratios_are_of_the_same_round() -> None:
    record: list[str] = []
    ours = Scripted("a", record, Script(first=0.02, token=0.005))
    theirs = Scripted("b", record, Script(first=0.2, token=0.05))
    steps: list[tuple[int, str]] = []
    loads = [Closed(users=1, requests=1), Closed(users=3, requests=2)]
    result = compare(
        [ours, theirs], loads, SIZES, 2, model="m", progress=lambda turn, name: steps.append((turn, name))
    )
    assert record == ["+a", "-a", "+b", "-b", "+b", "-b", "+a", "-a"]  # one runs at a time
    assert steps == [(0, "a"), (0, "b"), (1, "b"), (1, "a")]
    assert [(one.server, one.arrivals) for one in result.results] == [
        (name, load) for load in loads for name in ("a", "b")
    ]
    first, second = result.results[2:]
    assert first.tokens_per_s_ratio is None and len(first.loads) == len(second.loads) == 2
    ratios = [a.tokens_per_s / b.tokens_per_s for a, b in zip(first.loads, second.loads, strict=True)]
    assert second.tokens_per_s_ratio == Spread.of(ratios) and max(ratios) > 1
    ttfts = [
        a.ttft_s.p95 / b.ttft_s.p95
        for a, b in zip(first.loads, second.loads, strict=True)
        if a.ttft_s and b.ttft_s
    ]
    assert second.ttft_p95_ratio == Spread.of(ttfts) and len(ttfts) == 2 and min(ttfts) < 1
    assert first.tokens_per_s == Spread.of([load.tokens_per_s for load in first.loads])
    assert first.peak_rss_bytes == 1000
    # The order of concurrent users is not fixed.
    texts = [sorted(str(one["messages"]) for one in server.script.bodies) for server in (ours, theirs)]
    assert texts[0] == texts[1]  # the same chats for both; only the first server counted tokens

    value = json.loads(json.dumps(asdict(result)))
    assert value["schema"] == SCHEMA and value["results"][3]["loads"][0]["answers"] == 6
    table = tables.comparison_table(result)
    assert "3 users" in table and "(smallest to largest); ratio: a's figure divided by the other's" in table


def test_another_server_that_fails_is_skipped() -> None:
    record: list[str] = []
    theirs = Scripted("b", record, Script(status=503))
    result = compare([Scripted("a", record), theirs], [Open(rate=100, requests=3)], SIZES, 2)
    assert record.count("+b") == 1 and record.count("+a") == 2
    ours, failed = result.results
    assert ours.failure is None and failed.tokens_per_s is None
    assert failed.failure is not None and "status 503: no luck" in failed.failure
    assert "b, 100 requests/s: failed: the server does not answer" in tables.comparison_table(result)


def test_answers_that_break_after_the_warm_up_are_reported() -> None:
    class Breaking(Script):
        @property
        def error_after(self) -> int | None:  # type: ignore[override]
            return 1 if len(self.bodies) > 1 else None

        @error_after.setter
        def error_after(self, value: int | None) -> None:
            pass

    result = compare(
        [Scripted("a", []), Scripted("b", [], Breaking())], [Closed(users=1, requests=2)], SIZES, 1
    )
    assert result.results[1].failure is not None and "engine lost" in result.results[1].failure
    assert "b, 1 user: 2 failed" in tables.comparison_table(result)


@pytest.mark.parametrize(("markup", "differ"), [(10, False), (30, True)])
def test_prompts_of_different_sizes_are_reported(markup: int, differ: bool) -> None:
    pair = [Scripted("a", []), Scripted("b", [], Script(markup=markup))]
    table = tables.comparison_table(compare(pair, [Closed(users=1, requests=1)], SIZES, 1))
    assert ("1 user: the tokens per prompt differ between servers: a 40, b 60" in table) is differ


def test_a_failure_of_the_first_server_is_an_error() -> None:
    with pytest.raises(binhdan.BinhdanError, match="no luck"):
        compare([Scripted("a", [], Script(status=500))], [Closed()], SIZES, 1)
    with pytest.raises(binhdan.InvalidArgumentError, match="at least 1"):
        compare([], [Closed()], SIZES, 1)


# ---- a real server -----------------------------------------------------------------------------------------


def command(*arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "binhdan", "bench", "load", *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=timeout)


def test_load_of_our_server() -> None:
    small = ["--requests", "1", "--system", "150", "--question", "16", "--answer", "8"]
    with servers.binhdan_server(threads=1).run() as server:
        done = command("run", server.url, "--users", "2", "--rate", "20", "--total", "3", *small, "--json")
        assert done.returncode == 0, done.stderr
        table = command("run", server.url, "--users", "1", *small)
    closed, opened = json.loads(done.stdout)
    assert (
        closed["arrivals"] == {"users": 2, "requests": 1}
        and closed["answers"] == 2
        and opened["answers"] == 3
    )
    assert closed["answer_tokens"] == opened["answer_tokens"] == 8 and closed["failures"] == {}
    assert 150 < closed["prompt_tokens"] < 200 and closed["cached_tokens"] >= 128
    assert "1 user: 1 answers" in table.stdout and "of a core" in table.stdout


def test_comparison_of_our_server_with_a_running_one() -> None:
    with running(make_app(Script())) as url:
        done = command(
            *("compare", "--url", f"there={url}", "--users", "1", "--requests", "1", "--rounds", "1"),
            *("--threads", "1", "--system", "100", "--question", "8", "--answer", "4", "--json"),
        )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [one["server"] for one in result["results"]] == ["binhdan", "there"]
    assert result["results"][0]["peak_rss_bytes"] is None or result["results"][0]["peak_rss_bytes"] > 20e6
    assert result["results"][1]["tokens_per_s_ratio"]["median"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "http://127.0.0.1:1"], "cannot connect to 127.0.0.1:1"),
        (["run", "localhost"], "expected a URL"),
        (["run", "http://127.0.0.1:1", "--rate", "0"], "rate above 0"),
        (["compare", "-m", "/nowhere.gguf"], "no such file"),
        (["soak", "--requests", "1"], "at least 10 requests"),
    ],
)
def test_errors_are_one_line(arguments: list[str], message: str) -> None:
    done = command(*arguments)
    assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1


@needs_proc
def test_the_server_ends_with_ctrl_c(tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "binhdan",
        "bench",
        "load",
        "soak",
        "--requests",
        "100000",
        "--clients",
        "2",
    ]
    bench = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        deadline, found = time.monotonic() + 60, []
        while not found and time.monotonic() < deadline:
            time.sleep(0.1)
            children = Path(f"/proc/{bench.pid}/task/{bench.pid}/children").read_text().split()
            found = [int(pid) for pid in children]
        time.sleep(1)
        os.kill(bench.pid, signal.SIGINT)
        bench.communicate(timeout=60)
        assert bench.returncode == 130 and found and not any(map(exists, found))
    finally:
        bench.kill()
        bench.wait()
