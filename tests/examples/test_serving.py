"""examples/serving: each program starts with its file and passes a stream on."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from programs import FOLDER, edited, free_port, listens, nginx_command, running
from serving import ANSWER, QUESTION, serving

BODY = {"messages": [{"role": "user", "content": QUESTION}], "stream": True}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def servers() -> Iterator[list[str]]:
    """Host and port of two servers."""
    hosts = ["chat.example.vn"]
    with serving(models={"a": None}, allowed_hosts=hosts) as one:
        with serving(models={"a": None}, allowed_hosts=hosts) as other:
            yield [url.removeprefix("http://") for url in (one, other)]


def streamed(url: str, **options: Any) -> str:
    """The pieces of a streamed answer. Checks that they arrive one by one."""
    headers = {"Host": "chat.example.vn"}
    pieces = []
    with httpx.Client(**options) as client:
        with client.stream("POST", f"{url}/v1/chat/completions", json=BODY, headers=headers) as response:
            assert response.status_code == 200, response.read()
            pieces = [line for line in response.iter_lines() if line.startswith("data: {")]
        assert client.get(f"{url}/readyz", headers=headers).json()["status"] == "ready"
    return "".join(piece.partition('"content":"')[2].partition('"')[0] for piece in pieces)


def test_nginx(servers: list[str], tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    if shutil.which("openssl") is None:
        pytest.skip("no openssl: apt-get install openssl")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=a"
    names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:chat.example.vn"]
    subprocess.run(
        [*command.split(), *names, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True
    )
    port = free_port()
    site = edited(
        "nginx.conf",
        tmp_path,
        {
            "127.0.0.1:8080": servers[0],
            "listen 443": f"listen {port}",
            "/etc/letsencrypt/live/chat.example.vn/fullchain.pem": str(cert),
            "/etc/letsencrypt/live/chat.example.vn/privkey.pem": str(key),
        },
    )
    with running(nginx_command(site), tmp_path / "log", listens(port)):
        context = ssl.create_default_context(cafile=str(cert))
        assert streamed(f"https://127.0.0.1:{port}", verify=context) == ANSWER


def test_haproxy(servers: list[str], tmp_path: Path) -> None:
    port, dead = free_port(), free_port()
    changes = {":8000": f"127.0.0.1:{port}", "127.0.0.1:8080": servers[0], "127.0.0.1:8081": servers[1]}
    command = ["haproxy", "-f", str(edited("haproxy.cfg", tmp_path, changes))]
    with running(command, tmp_path / "log", listens(port)):
        assert [streamed(f"http://127.0.0.1:{port}") for _ in range(4)] == [ANSWER] * 4
    port = free_port()
    changes = {
        ":8000": f"127.0.0.1:{port}",
        "127.0.0.1:8080": f"127.0.0.1:{dead}",
        "127.0.0.1:8081": servers[1],
    }
    command = ["haproxy", "-f", str(edited("haproxy.cfg", tmp_path, changes))]
    with running(command, tmp_path / "log", listens(port)):
        assert [streamed(f"http://127.0.0.1:{port}") for _ in range(4)] == [ANSWER] * 4


def test_caddy(servers: list[str], tmp_path: Path) -> None:
    port = free_port()
    file = edited(
        "Caddyfile",
        tmp_path,
        {"\nchat.example.vn {": f"\nhttp://:{port} {{", "127.0.0.1:8080": servers[0]},
    )
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(file)]
    with running(command, tmp_path / "log", listens(port)):
        assert streamed(f"http://127.0.0.1:{port}") == ANSWER


def test_systemd(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze: apt-get install systemd")
    unit = edited("binhdan.service", tmp_path, {"/opt/binhdan/bin/binhdan": "/bin/true"})
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert str(unit.name) not in done.stderr, done.stderr


def test_the_kubernetes_manifest_is_yaml() -> None:
    yaml = pytest.importorskip("yaml", reason="no PyYAML: pip install pyyaml")
    kinds = [one["kind"] for one in yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text("utf-8"))]
    assert kinds == ["Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"]
