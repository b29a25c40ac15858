"""runtime/cli/serve.py: the command as a process, with a small application in place of the server's."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from binhdan.runtime.cli.serve import serve as command
from binhdan.runtime.client.model import embedded_model
from binhdan.runtime.server.config import ServerConfig, parse_size

# Replaces the server's application, then runs the command line.
PROGRAM = """
import asyncio, sys, types
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from binhdan.commands import main
from binhdan.runtime.server.http.gateway import Gateway

def create_app(config):
    app = FastAPI()
    pool = types.SimpleNamespace(failed=None, draining=False, end_requests=lambda: None)
    keyring = config.keyring()
    reload = lambda changed: keyring.replace(changed.keyring())
    app.state.server = types.SimpleNamespace(pool=pool, reload=reload)
    app.add_middleware(Gateway, config=config, keyring=keyring)

    @app.get("/livez")
    def livez(): return {}

    @app.get("/config")
    def show(): return config

    @app.get("/count/{n}")
    async def count(n: int):
        async def numbers():
            for i in range(n):
                yield f"{i}\\n"
                await asyncio.sleep(0.1)
        return StreamingResponse(numbers())

    @app.get("/bug")
    def bug(): raise KeyError("a secret")

    return app

sys.modules["binhdan.runtime.server.app"] = types.SimpleNamespace(create_app=create_app)
main()
"""
KEY = "sk-0123456789abcdef"


class Process:
    """`binhdan serve --port 0 …`, listening."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "serve", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | (env or {}),
        )
        self.lines: list[dict[str, Any]] = []
        assert self.process.stderr is not None
        while not any(line["message"] == "listening" for line in self.lines):
            text = self.process.stderr.readline()
            assert text, "the server has ended"
            self.lines.append(json.loads(text))
        self.url: str = self.lines[-1]["url"]

    def end(self, number: int = signal.SIGTERM) -> int:
        """The exit code after a signal. Checks that standard error is JSON and standard output is empty."""
        self.process.send_signal(number)
        assert self.process.stdout is not None and self.process.stderr is not None
        stderr = self.process.stderr.read()  # communicate() would lose what readline() has buffered
        assert self.process.stdout.read() == b""
        self.process.wait(30)
        self.lines += [json.loads(line) for line in stderr.splitlines()]
        return self.process.returncode


@pytest.fixture
def running() -> Iterator[Any]:
    processes: list[Process] = []

    def start(*arguments: str, **named: Any) -> Process:
        processes.append(Process(*arguments, **named))
        return processes[-1]

    yield start
    for one in processes:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


def complaint(*arguments: str, code: int = 1, program: str = PROGRAM, **env: str) -> str:
    """The only line on standard error of a command that fails."""
    done = subprocess.run(
        [sys.executable, "-c", program, "serve", *arguments],
        capture_output=True,
        timeout=60,
        env=os.environ | env,
    )
    line = done.stderr.decode()
    assert done.returncode == code and done.stdout == b"", line
    assert line.startswith("binhdan: ") and line.count("\n") == 1, line
    return line


# ---- runs --------------------------------------------------------------------------------------------------


def test_serving(running: Any) -> None:
    server = running("--api-key", f"lan {KEY}")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", server.url)
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {KEY}"}) as client:
        answer = client.get("/livez")
        assert answer.status_code == 200 and "server" not in answer.headers
        assert client.get("/config").json()["port"] == 0
        assert client.get("/bug").status_code == 500
    assert server.end() == 0
    text = json.dumps(server.lines)
    assert KEY not in text and "a secret" not in text
    requests = [line for line in server.lines if line["message"] == "request"]
    assert [(line["route"], line["status"]) for line in requests] == [("/config", 200), ("/bug", 500)]
    (failed,) = [line for line in server.lines if line["level"] == "error"]
    assert failed["error"]["type"] == "KeyError" and failed["request_id"] == requests[-1]["request_id"]


def test_running_requests_finish_before_the_exit(running: Any) -> None:
    server = running()
    with httpx.stream("GET", f"{server.url}/count/30", timeout=30) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "0"
        server.process.send_signal(signal.SIGTERM)
        for _ in range(3):  # the port still answers, so that a balancer can read /readyz
            assert httpx.get(f"{server.url}/livez").status_code == 200
        assert list(lines) == [str(i) for i in range(1, 30)]
    server.process.communicate(timeout=30)
    assert server.process.returncode == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/livez")


def test_a_second_signal_ends_the_drain(running: Any) -> None:
    server = running()
    with httpx.stream("GET", f"{server.url}/count/100000", timeout=30) as answer:
        lines = answer.iter_lines()  # a reference keeps the connection open
        next(lines)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert server.process.poll() is None
        start = time.monotonic()
        assert server.end() == 0 and time.monotonic() - start < 15


def test_a_unix_socket_and_several_addresses(running: Any, tmp_path: Path) -> None:
    path = tmp_path / "b.sock"
    with socket.socket(socket.AF_UNIX) as old:  # of a server that was killed
        old.bind(str(path))
    server = running("--host", "127.0.0.1", "--host", f"unix:{path}")
    while len([line for line in server.lines if line["message"] == "listening"]) < 2:
        server.lines.append(json.loads(server.process.stderr.readline()))
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
        assert client.get("http://localhost/livez").status_code == 200
    assert path.stat().st_mode & 0o777 == 0o660
    assert "cannot listen on" in complaint("--host", f"unix:{path}")
    assert server.end() == 0 and not path.exists()


def test_tls(running: Any, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    if shutil.which("openssl") is None:
        pytest.skip("no openssl: apt-get install openssl")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    )
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    server = running("--tls-cert", str(cert), "--tls-key", str(key))
    assert server.url.startswith("https://")
    context = ssl.create_default_context(cafile=str(cert))
    assert httpx.get(f"{server.url}/livez", verify=context).status_code == 200
    assert server.end() == 0
    assert "expected two PEM files" in complaint("--tls-cert", str(cert), "--tls-key", str(cert))


def test_draining_is_limited(running: Any) -> None:
    server = running("--drain-seconds", "0.3")
    with httpx.stream("GET", f"{server.url}/count/100000", timeout=30) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "0"
        start = time.monotonic()
        assert server.end() == 0 and time.monotonic() - start < 15
        with pytest.raises(httpx.RemoteProtocolError):
            list(lines)


def test_ctrl_c(running: Any) -> None:
    assert running().end(signal.SIGINT) == 130


def test_sighup_reads_keys_and_limits_again(running: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"lan {KEY}\n")
    server = running("--api-key-file", str(keys))

    def status(key: str) -> int:
        return httpx.get(f"{server.url}/config", headers={"x-api-key": key}).status_code

    assert (status(KEY), status("sk-another-key-1")) == (200, 401)
    headers = {"x-api-key": KEY}
    with httpx.stream("GET", f"{server.url}/count/20", headers=headers, timeout=30) as answer:
        lines = answer.iter_lines()
        next(lines)
        keys.write_text("an sk-another-key-1\n")
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 30
        while status("sk-another-key-1") != 200 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert status(KEY) == 401
        assert len(list(lines)) == 19
    keys.write_text("an x y z\n")
    server.process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert status("sk-another-key-1") == 200
    assert server.end() == 0
    messages = [line["message"] for line in server.lines]
    assert "settings reloaded" in messages and "settings not reloaded" in messages


# ---- settings ----------------------------------------------------------------------------------------------


def test_settings_reach_the_server(running: Any, tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(
        'threads = 1\nmax_waiting = 9\nheader_seconds = 1.5\nmax_prefix_cache_dir_bytes = "1GiB"\n'
    )
    server = running(
        *("embedded", "--config", str(file), "--model", "small=embedded", "--default-model", "small"),
        *("--max-waiting", "8", "--max-kv-bytes", "64MiB", "--deterministic", "--no-page", "--open-metrics"),
        *(
            "--allowed-host",
            "a.vn",
            "--allowed-host",
            "b.vn",
            "--max-choices",
            "3",
            "--max-model-memory-bytes",
            "1GB",
        ),
        env={"BINHDAN_MAX_WAITING": "7", "BINHDAN_MAX_SEQUENCES": "5"},
    )
    config = httpx.get(f"{server.url}/config").json()
    assert (config["threads"], config["max_waiting"], config["max_sequences"]) == (1, 8, 5)
    assert list(config["models"]) == ["small", embedded_model().stem] and config["default_model"] == "small"
    assert config["max_kv_bytes"] == 64 << 20 and config["max_prefix_cache_dir_bytes"] == 1 << 30
    assert config["deterministic"] and not config["page"] and config["metrics_open"]
    assert config["allowed_hosts"] == ["a.vn", "b.vn"] and config["max_choices"] == 3
    assert config["max_model_memory_bytes"] == 10**9
    # Limits of connections apply too.
    with socket.create_connection(("127.0.0.1", httpx.URL(server.url).port or 0), timeout=10) as slow:
        slow.sendall(b"GET / HT")
        assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_options_are_settings_and_their_help_states_the_default() -> None:
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        if name in ("model", "config", "api_key", "api_key_file"):
            continue
        field = ServerConfig.model_fields[name]
        option = parameter.annotation.__metadata__[0]
        stated = re.search(r"\[default: (.*)\]", option.help)
        assert parameter.default is None
        if type(field.default) in (int, float, str):
            assert stated, name
            value = parse_size(stated[1]) if "body" in name else type(field.default)(stated[1])
            assert value == field.default, name


def test_a_name_with_several_addresses(running: Any) -> None:
    server = running("--host", "localhost")
    server.end()
    urls = [line["url"] for line in server.lines if line["message"] == "listening"]
    families = {"[" in url for url in urls}  # [::1], and 127.0.0.1
    assert len(families) == (2 if has_ipv6() else 1) and len({url.rpartition(":")[2] for url in urls}) == 1


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


# ---- errors ------------------------------------------------------------------------------------------------


def test_invalid_settings(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("prot = 1")
    line = complaint(
        "--config", str(tmp_path / "a.toml"), "--max-kv-bytes", "much", BINHDAN_HEADER_SECONDS="soon"
    )
    assert "there is no setting prot" in line and "header_seconds" in line and "such as 2GiB" in line
    assert "an API key is needed" in complaint("--host", "0.0.0.0")
    assert "no such file: none.gguf" in complaint("none.gguf")
    (tmp_path / "junk.gguf").write_bytes(b"junk")
    assert "junk.gguf: header, byte 0: not a GGUF file" in complaint(str(tmp_path / "junk.gguf"))
    assert "port (the command line): expected a number below 65536, got 99999" in complaint("--port", "99999")
    assert "No such option" in complaint("--prot", "1", code=2)


def test_an_address_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as used:
        line = complaint("--port", str(used.getsockname()[1]))
    assert "cannot listen on 127.0.0.1" in line and "in use" in line


@pytest.mark.parametrize("name", ["uvicorn", "fastapi", "httptools"])
def test_without_the_extra(name: str) -> None:
    program = f"import sys; sys.modules[{name!r}] = None\nfrom binhdan.commands import main; main()"
    line = complaint(program=program)
    assert f"needs {name}; install it with: pip install 'binhdan[server]'" in line
