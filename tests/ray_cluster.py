"""A real Ray cluster of several nodes on this machine, with binhdan on it."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest

# A busy machine starts processes slowly. Set before Ray is imported, because its processes inherit them.
_ENVIRONMENT = {
    # As examples/serving/ray.yaml recommends: HAProxy passes requests to the fronts.
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # 15 by default
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "600",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "300",
    "RAY_enable_metrics_collection": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_worker_register_timeout_seconds": "900",
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "900",
    "RAY_gcs_server_request_timeout_seconds": "600",
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_health_check_initial_delay_ms": "60000",
    "RAY_health_check_timeout_ms": "120000",
}
_HEAD: dict[str, Any] = {"num_cpus": 0, "include_dashboard": False, "resources": {"front": 1}}
_NODE: dict[str, Any] = {"object_store_memory": 80 * 2**20}


def ray_environment() -> dict[str, str]:
    """The variables for a program that starts Ray."""
    return _ENVIRONMENT


class RayCluster:
    """The head, with the front and no engines, and nodes with one CPU for one engine each."""

    def __init__(self, nodes: int) -> None:
        import ray
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args=_HEAD | _NODE)
        self.nodes = [self.add_node() for _ in range(nodes)]
        ray.init(address=self._cluster.address, logging_level="error")
        self.url = ""

    def add_node(self) -> Any:
        return self._cluster.add_node(num_cpus=1, wait=False, **_NODE)

    def restore_node(self, engines: int) -> None:
        """Adds a node and waits until so many engines run. Tries again if its raylet ends: on a busy machine
        it does so when its agents are not up within 15 s."""
        for _ in range(5):
            self.nodes.append(self.add_node())
            wait_until(lambda: self.engines() == engines or self._last_has_ended(), "an engine starts")
            if self.engines() == engines:
                return
            self.nodes.pop()
        raise AssertionError("no node has started")

    def _last_has_ended(self) -> bool:
        """True if the raylet of the last node has ended."""
        return self.nodes[-1].all_processes["raylet"][0].process.poll() is not None

    def kill_node(self, node: Any) -> None:
        """SIGKILL to all processes of a node, as when the machine loses its power."""
        raylets = node.all_processes["raylet"]
        children = [pid for raylet in raylets for pid in descendants(raylet.process.pid)]
        for raylet in raylets:
            raylet.process.kill()
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._cluster.remove_node(node, allow_graceful=False)

    def serve(self, replicas: int, **settings: Any) -> None:
        """Serves the embedded model with these settings on so many nodes."""
        from ray import serve
        from ray.exceptions import GetTimeoutError

        from binhdan.runtime.server.config import load
        from binhdan.runtime.server.ray.deployments import build

        if not self.url:
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            self.url = f"http://127.0.0.1:{port}"
            with suppress(GetTimeoutError):  # the proxy of a busy machine comes later
                serve.start(http_options={"port": port, "location": "HeadOnly"})
        config = load(changes={"context": 512, **settings})
        application = build(config, engines=replicas, cpus=1, front_resources={"front": 0.1})
        serve.run(application, name="binhdan")
        wait_until(lambda: responds(f"{self.url}/livez"), "the front responds")

    def engines(self) -> int:
        """Replicas of the engine that run now."""
        from ray import serve

        states = serve.status().applications["binhdan"].deployments["engine"].replica_states
        return states.get("RUNNING", 0)

    def stop(self) -> None:
        import ray
        from ray import serve

        serve.shutdown()
        ray.shutdown()
        self._cluster.shutdown()


@contextmanager
def ray_cluster(nodes: int) -> Iterator[RayCluster]:
    """Skips the test where Ray is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _ENVIRONMENT.items():
            patch.setenv(name, value)
        pytest.importorskip("ray", reason="needs the extra ray")
        cluster = RayCluster(nodes)
        try:
            yield cluster
        finally:
            cluster.stop()


def descendants(pid: int) -> list[int]:
    """The children of a process, their children, and so on."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/children") as file:
                children = [int(child) for child in file.read().split()]
        except FileNotFoundError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def wait_until(done: Callable[[], bool], what: str, seconds: float = 600.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.2)


def responds(address: str) -> bool:
    """True if a GET has the status 200."""
    try:
        return httpx.get(address, timeout=30).status_code == 200
    except httpx.HTTPError:
        return False
