"""runtime/client/hub.py and `binhdan pull`, against a local hub."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import Hub, running_hub

import binhdan
from binhdan.runtime.client import hub


@pytest.fixture
def server() -> Iterator[Hub]:
    with running_hub() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "hf"


def run(server: Hub, home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), env=variables(server, home) | environment, capture_output=True, text=True
    )


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "binhdan", *arguments]


def variables(server: Hub, home: Path) -> dict[str, str]:
    proxies = {"http_proxy", "https_proxy", "all_proxy"}
    kept = {
        key: value
        for key, value in os.environ.items()
        if key.lower() not in proxies and not key.startswith("HF_")
    }
    return kept | {"HF_ENDPOINT": server.url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def test_a_download_is_cached(server: Hub, home: Path) -> None:
    server.repos["vi/bé"] = {}
    server.repos["vi/be"] = {"be-Q4_0.gguf": noise(100_000), "README.md": b"x", "mmproj-be.gguf": b"y"}
    done = run(server, home, "pull", "vi/be")
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip())
    assert path.read_bytes() == server.repos["vi/be"]["be-Q4_0.gguf"] and path.is_relative_to(home)
    # A cached file is not downloaded again, online or offline.
    server.ranges.clear()
    assert run(server, home, "pull", "vi/be").stdout == done.stdout
    assert run(server, home, "pull", "vi/be", HF_HUB_OFFLINE="1").stdout == done.stdout
    assert not server.ranges


def test_an_interrupted_download_resumes_in_another_process(server: Hub, home: Path) -> None:
    data = server.repos.setdefault("vi/be", {}).setdefault("be.gguf", noise(25 << 20))
    server.stall_after = 12 << 20
    with subprocess.Popen(
        command("pull", "vi/be"),
        env=variables(server, home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        while (
            not any(part.stat().st_size for part in home.rglob("*.partial")) and time.monotonic() < deadline
        ):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in stderr
    assert not list(home.rglob("*.gguf"))
    server.stall_after = None
    server.ranges.clear()
    done = run(server, home, "pull", "vi/be")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == data
    [resumed] = server.ranges
    assert resumed is not None and int(resumed.removeprefix("bytes=").partition("-")[0]) > 0


@pytest.fixture
def cache(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes this process use `server`; returns the folder of its cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    files = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_wrong_checksum(server: Hub, cache: Path) -> None:
    server.repos["vi/be"] = {"be.gguf": noise(1000)}
    server.broken = True
    with pytest.raises(binhdan.BadFormatError, match="is damaged"):
        hub.pull("vi/be")
    assert not list(cache.rglob("*.gguf")) and not list(cache.rglob("*.partial"))
    server.broken = False
    assert hub.pull("vi/be").read_bytes() == noise(1000)


def test_a_damaged_file_in_the_cache(server: Hub, cache: Path) -> None:
    server.repos["vi/be"] = {"be.gguf": noise(1000)}
    hub.pull("vi/be").resolve().write_bytes(b"damaged")
    with pytest.raises(binhdan.BadFormatError, match="damaged and was removed"):
        hub.pull("vi/be")
    assert hub.pull("vi/be").read_bytes() == noise(1000)


def test_all_parts_of_a_split_file(server: Hub, cache: Path) -> None:
    parts = {f"q4/be-Q4_0-{i:05}-of-00003.gguf": noise(1000 + i) for i in (1, 2, 3)}
    server.repos["vi/be"] = dict(reversed(parts.items()))
    first = hub.pull("vi/be")
    assert first.name == "be-Q4_0-00001-of-00003.gguf"
    assert [path.read_bytes() for path in sorted(first.parent.iterdir())] == list(parts.values())
    assert hub.find("vi/be:q4_0") == first


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("vi/none", binhdan.ModelNotFoundError, "no repository vi/none"),
        ("vi/empty", binhdan.ModelNotFoundError, "no GGUF"),
        ("vi/many", binhdan.InvalidArgumentError, "several models.*a-x.gguf, b-x.gguf"),
        ("vi/many:q9", binhdan.ModelNotFoundError, "has no q9"),
        ("notarepo", binhdan.InvalidArgumentError, "expected a repository"),
    ],
)
def test_impossible_names(
    server: Hub, cache: Path, name: str, kind: type[binhdan.BinhdanError], message: str
) -> None:
    server.repos |= {"vi/empty": {"README.md": b""}, "vi/many": {"a-x.gguf": b"1", "b-x.gguf": b"2"}}
    with pytest.raises(kind, match=message):
        hub.pull(name)


def test_no_network(server: Hub, home: Path) -> None:
    done = run(server, home, "pull", "vi/be", HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "cannot download vi/be" in done.stderr
    done = run(server, home, "pull", "vi/be", HF_HUB_OFFLINE="1")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "not in the local cache" in done.stderr


def test_load_by_name(server: Hub, home: Path) -> None:
    done = run(server, home, "ask", "-m", "vi/be", "xin chào")
    assert done.returncode == 1 and "binhdan pull vi/be" in done.stderr
    embedded = hub_model()
    server.repos["vi/be"] = {"be.gguf": embedded}
    assert run(server, home, "pull", "vi/be").returncode == 0
    done = run(server, home, "ask", "-m", "vi/be", "them dau: ha noi", HF_HUB_OFFLINE="1")
    assert done.stdout == "hà nội\n", done.stderr


def hub_model() -> bytes:
    from binhdan.runtime.client.model import embedded_model

    return embedded_model().read_bytes()


PARTS = ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"]
MANY = ["x-Q8_0.gguf", "x-Q4_K_M.gguf", "x-Q4_K_S.gguf", "x-f16.gguf", "x-Q2_K-00001-of-00002.gguf"]


@pytest.mark.parametrize(
    ("names", "wanted", "chosen"),
    [
        (MANY, None, ["x-Q4_K_M.gguf"]),
        (MANY, "q8_0", ["x-Q8_0.gguf"]),
        (MANY, "x-f16.gguf", ["x-f16.gguf"]),
        (["only.gguf"], None, ["only.gguf"]),
        (["x-Q4_0.gguf", "x-Q4_0_8_8.gguf"], "Q4_0", ["x-Q4_0.gguf"]),
        (
            ["a-00002-of-00002.gguf", "a-00001-of-00002.gguf"],
            None,
            ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"],
        ),
    ],
)
def test_choice(names: list[str], wanted: str | None, chosen: list[str]) -> None:
    assert hub.choose(names, "vi/be", wanted) == chosen


def test_missing_parts() -> None:
    with pytest.raises(binhdan.ModelNotFoundError, match="no GGUF"):
        hub.choose(["a-00002-of-00002.gguf"], "vi/be", None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a/b", True), ("a/b:q4", True), ("a/b.gguf", False), ("./a/b", False), ("a", False)],
)
def test_names(name: str, expected: bool) -> None:
    assert hub.is_id(name) is expected
