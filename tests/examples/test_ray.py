"""examples/serving/ray.yaml as an operator uses it: `ray start`, `serve deploy`, `serve run`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from programs import edited, free_port
from ray_cluster import ray_environment, responds, wait_until
from serving import ANSWER, QUESTION

pytestmark = pytest.mark.slow

KEY = "key-of-an-operator"
TOKENS = '[keys.an]\nkey = "key-of-an-operator"\n'
PLAIN = {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"}


@dataclass(frozen=True)
class Operator:
    """A shell of the machine that is the whole cluster."""

    folder: Path
    environment: Mapping[str, str]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Starts a program of the environment of the tests."""
        program = str(Path(sys.executable).with_name(command[0]))
        log = (self.folder / f"{command[0]}-{command[1]}.log").open("ab")
        with log:
            return subprocess.Popen([program, *command[1:]], env=self.environment, stdout=log, stderr=log)

    def deploy(self, keys: str, revision: int = 1) -> None:
        """`serve deploy` of the example with the embedded model."""
        config = self.folder / "binhdan.toml"
        config.write_text(f'context = 512\n[models]\ntiny-vi = "embedded"\n{keys}', "utf-8")
        changes = {
            "host: 0.0.0.0": "host: 127.0.0.1",
            "port: 8000": f"port: {self.port}",
            "/etc/binhdan/binhdan.toml": str(config),
            "revision: 1": f"revision: {revision}",
            "      ledger: postgresql:": "      # ledger: postgresql:",
            "num_cpus: 4": "num_cpus: 1",
            "min_replicas: 2": "min_replicas: 1",
            "max_replicas: 64": "max_replicas: 1",
        }
        file = edited("ray.yaml", self.folder, changes)
        assert self.start("serve", "deploy", str(file)).wait(600) == 0
        wait_until(lambda: self.status(KEY) in (200, 401, 403), "it answers")

    def status(self, key: str = "") -> int:
        """The status of an answer; 0 while the server cannot be reached or starts."""
        try:
            return self.ask(key, 30).status_code
        except httpx.HTTPError:
            return 0

    def ask(self, key: str = "", seconds: float = 300) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        body = {"messages": [{"role": "user", "content": QUESTION}]}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=seconds)


@contextmanager
def cluster(folder: Path, settings: Mapping[str, str]) -> Iterator[Operator]:
    """One machine after `ray start --head`. Skips the test where Ray is not installed."""
    pytest.importorskip("ray", reason="needs the extra ray")
    dashboard, gcs = free_port(), free_port()
    own = {"RAY_TMPDIR": str(folder), "RAY_DASHBOARD_ADDRESS": f"http://127.0.0.1:{dashboard}"}
    environment = os.environ | ray_environment() | own | {"RAY_ADDRESS": f"127.0.0.1:{gcs}"} | settings
    operator = Operator(folder, environment, free_port())
    options = [f"--port={gcs}", f"--dashboard-port={dashboard}", '--resources={"front": 1}', "--num-cpus=2"]
    options += [
        "--object-store-memory=80000000",
        f"--ray-client-server-port={free_port()}",
        "--disable-usage-stats",
    ]
    options += [f"--dashboard-agent-listen-port={free_port()}"]
    options += ["--min-worker-port=0", "--max-worker-port=0"]  # any ports: the default range may be in use
    ray = operator.start("ray", "start", "--head", "--block", *options)
    try:
        address = f"{own['RAY_DASHBOARD_ADDRESS']}/api/version"
        wait_until(lambda: ray.poll() is not None or responds(address), "the dashboard answers")
        assert ray.poll() is None
        yield operator
    except AssertionError:
        for log in folder.glob("*.log"):
            print(log.name, log.read_text("utf-8", "replace")[-3000:])
        raise
    finally:
        ray.terminate()  # ends the processes of this cluster only
        ray.wait(120)


def text(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


def test_deploy_and_run(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp().parent / f"r{os.getpid()}"  # Ray's sockets need a short path
    folder.mkdir()
    with cluster(folder, PLAIN) as operator:
        operator.deploy(TOKENS)
        assert text(operator.ask(KEY)) == ANSWER
        assert operator.ask().status_code == operator.ask("wrong").status_code == 401
        # Another key, and another revision: the file is read again.
        operator.deploy(TOKENS.replace(KEY, "another-key"), revision=2)
        wait_until(lambda: operator.status("another-key") == 200, "the new key is valid")
        assert operator.ask(KEY).status_code == 401
        # The same application from a command, now without keys: clients of this machine need none.
        config = folder / "keyless.toml"
        config.write_text('context = 512\n[models]\ntiny-vi = "embedded"\n', "utf-8")
        application = ["binhdan.runtime.server.ray:app", f"config={config}"]
        run = operator.start("serve", "run", "--name", "binhdan", *application)
        try:
            wait_until(lambda: run.poll() is not None or operator.status() == 200, "it answers")
            assert run.poll() is None and text(operator.ask()) == ANSWER
        finally:
            run.send_signal(signal.SIGINT)
            run.wait(120)


def test_without_keys_nothing_passes_haproxy(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Ray's HAProxy listens on all addresses and hides those of its clients: even this machine is refused."""
    folder = tmp_path_factory.getbasetemp().parent / f"h{os.getpid()}"
    folder.mkdir()
    with cluster(folder, {}) as operator:
        operator.deploy("")
        refused = operator.ask()
        assert refused.status_code == 403 and "set API keys" in refused.json()["error"]["message"]
