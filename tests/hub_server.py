"""A local model hub: the endpoints for downloading a file, with optional faults."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """`repos`: repository → file name → bytes. Records the Range headers of the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.stall_after: int | None = None  # a download stalls after so many bytes
        self.broken = False  # sends bytes that do not match the ETag
        self.ranges: list[str | None] = []  # Range headers of the downloads

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if model := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/[^/]+)?", path):
            self._model(model[1])
        elif file := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(file[1], file[3])
        else:
            self._answer(404, b"")

    def _model(self, repo: str) -> None:
        files = self.server.repos.get(repo)
        if files is None:
            self._answer(404, b'{"error": "no repo"}', {"X-Error-Code": "RepoNotFound"})
            return
        siblings = []
        for name, data in files.items():
            git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            sibling = {"rfilename": name, "size": len(data), "blobId": git}
            if name.endswith(".gguf"):
                digest = hashlib.sha256(data).hexdigest()
                sibling["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 134}
            siblings.append(sibling)
        body = {
            "id": repo,
            "modelId": repo,
            "sha": COMMIT,
            "private": False,
            "tags": [],
            "siblings": siblings,
        }
        self._answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _file(self, repo: str, name: str) -> None:
        data = self.server.repos.get(repo, {}).get(name)
        if data is None:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        head = {
            "X-Repo-Commit": COMMIT,
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X-Linked-Size": str(len(data)),
            "Accept-Ranges": "bytes",
        }
        if self.command == "HEAD":
            self._answer(200, data, head)
            return
        range_ = self.headers.get("Range")
        self.server.ranges.append(range_)
        start = int(re.fullmatch(r"bytes=(\d+)-.*", range_)[1]) if range_ else 0  # type: ignore[index]
        body = data[start:]
        if self.server.broken:
            body = bytes(byte ^ 1 for byte in body)
        if range_:
            head["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._answer(206 if range_ else 200, body, head, self.server.stall_after)

    def _answer(
        self, code: int, body: bytes, head: dict[str, str] | None = None, stall: int | None = None
    ) -> None:
        self.send_response(code)
        for key, value in (head or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body if stall is None else body[:stall])
        if stall is not None:
            self.rfile.read(1)  # blocks until the client disconnects
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Yields a hub on a free loopback port."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
