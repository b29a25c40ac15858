"""The sockets of `binhdan serve`, and the process's signals."""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from binhdan.runtime.cli import console
from binhdan.runtime.errors import BinhdanError, FileReadError
from binhdan.runtime.server.accounting import logs
from binhdan.runtime.server.config import UNIX, ServerConfig
from binhdan.runtime.server.errors import without_paths
from binhdan.runtime.server.models.pool import ModelPool

END_SECONDS = 2.0  # for the last bytes of requests that were ended


class Server(uvicorn.Server):
    """Stops if the first model cannot be loaded. After SIGTERM or Ctrl-C it refuses new requests, and
    continues to listen until the running ones have ended or `drain_seconds` are over. A second signal ends
    them at once."""

    def __init__(
        self,
        config: uvicorn.Config,
        settings: ServerConfig,
        pool: ModelPool,
        reload: Callable[[], ServerConfig],
    ) -> None:
        super().__init__(config)
        self._settings = settings
        self._pool = pool
        self._reload = reload
        self._hangup = False  # SIGHUP has arrived
        self._deadline: float | None = None  # of the drain

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._deadline is None:
            self._captured_signals.append(sig)
            self._pool.draining = True
            self._deadline = time.monotonic() + self._settings.drain_seconds
            logs.log.info("draining", extra={"seconds": self._settings.drain_seconds})
        else:
            self._deadline = 0.0

    def reload_soon(self, *_: object) -> None:
        """The handler of SIGHUP."""
        self._hangup = True

    def _read_settings(self) -> None:
        """Reads the settings again. On an error the old ones remain."""
        try:
            settings = self._reload()
            if settings.tls_cert is not None and self.config.ssl is not None:
                check_certificate(settings, self.config.ssl)
        except BinhdanError as error:
            logs.log.error("settings not reloaded", extra={"reason": without_paths(str(error))})
        else:
            logs.log.info("settings reloaded", extra={"keys": len(settings.keys)})

    async def on_tick(self, counter: int) -> bool:
        if self._hangup:
            self._hangup = False
            self._read_settings()
        over = self._pool.failed is not None
        if self._deadline is not None:
            over |= not self.server_state.tasks or time.monotonic() >= self._deadline
        return await super().on_tick(counter) or over

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._pool.end_requests()
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            url = _url(listener, "http" if self._settings.tls_cert is None else "https")
            logs.log.info("listening", extra={"url": url})
            console.note(f"binhdan: {url}  (Ctrl-C stops the server)")


def listen(config: ServerConfig) -> list[socket.socket]:
    """Sockets bound to all addresses of all hosts. An address in use fails here, before a model is loaded,
    and so does a bad certificate. Raises FileReadError."""
    if config.tls_cert is not None:
        check_certificate(config)
    listeners: list[socket.socket] = []
    try:
        for host in config.host:
            if host.startswith(UNIX):
                listeners.append(_listen_unix(Path(host.removeprefix(UNIX))))
            else:
                # With port 0, all addresses get the port of the first.
                inet = [one for one in listeners if one.family != socket.AF_UNIX]
                port = inet[0].getsockname()[1] if inet else config.port
                listeners += _listen_inet(host, port)
    except BaseException:
        for bound in listeners:
            bound.close()
        raise
    return listeners


def remove_sockets(config: ServerConfig) -> None:
    """Removes the files of unix sockets."""
    for host in config.host:
        if host.startswith(UNIX):
            with suppress(OSError):
                os.unlink(host.removeprefix(UNIX))


def check_certificate(config: ServerConfig, context: ssl.SSLContext | None = None) -> None:
    """Loads certificate and key into `context`, or only checks them. Raises FileReadError."""
    assert config.tls_cert is not None
    try:
        (context or ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)).load_cert_chain(config.tls_cert, config.tls_key)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or str(error)
        raise FileReadError(
            f"cannot use the certificate {config.tls_cert} with the key {config.tls_key}: {reason}; "
            "expected two PEM files that belong together"
        ) from None


def _listen_inet(host: str, port: int) -> list[socket.socket]:
    listeners: list[socket.socket] = []
    try:
        for family, address in _addresses(host, port):
            bound = socket.socket(family, socket.SOCK_STREAM)
            listeners.append(bound)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:  # only "::" includes IPv4
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
            chosen = listeners[0].getsockname()[1] if len(listeners) > 1 else port
            bound.bind((address[0], chosen, *address[2:]))
    except OSError as error:
        for bound in listeners:
            bound.close()
        raise FileReadError(f"cannot listen on {host}, port {port}: {error.strerror}") from None
    return listeners


def _addresses(host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
    """The families and addresses of a host. localhost has both families, whatever /etc/hosts says."""
    found: list[tuple[int, tuple[Any, ...]]] = [
        (info[0], tuple(info[4]))
        for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    ]
    if host.lower() == "localhost":
        found.append((socket.AF_INET, ("127.0.0.1", port)))
        with suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
            found.append((socket.AF_INET6, ("::1", port, 0, 0)))
    return list(dict.fromkeys(found))


def _listen_unix(path: Path) -> socket.socket:
    """A unix socket that user and group can use. The file of a server that has ended is replaced."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if path.is_socket() and probe.connect_ex(str(path)) != 0:
                path.unlink()
        bound.bind(str(path))
        path.chmod(0o660)
    except OSError as error:
        bound.close()
        raise FileReadError(f"cannot listen on {path}: {error.strerror or error}") from None
    return bound


def _url(listener: socket.socket, scheme: str) -> str:
    if listener.family == socket.AF_UNIX:
        return f"{UNIX}{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
