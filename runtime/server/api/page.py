"""The chat page at `/`: the files of the folder page/, each with its own route."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from fastapi import APIRouter, Request, Response

INDEX = "index.html"
FILES = (
    INDEX,
    "announce.js",
    "api.js",
    "app.js",
    "branches.js",
    "dialogs.css",
    "dialogs.js",
    "dom.js",
    "english.js",
    "files.js",
    "frame.css",
    "history.js",
    "i18n.js",
    "icon.svg",
    "markdown.js",
    "problem.js",
    "rich.css",
    "rich.js",
    "run.js",
    "stats.js",
    "store.js",
    "style.css",
    "suggestions.js",
    "theme.js",
    "thread.css",
    "thread.js",
    "vendor/katex/LICENSE.txt",
    "vendor/katex/katex.min.js",
    "vendor/prism/LICENSE.txt",
    "vendor/prism/prism.js",
)
_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
# Scripts and requests only from and to this server; text can never become markup or a script.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = {
    # The browser revalidates each file: after an update, files of two versions must not mix.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class _File:
    """One file, in memory. All files together have about 500 kB."""

    content: bytes
    headers: dict[str, str]

    @classmethod
    def read(cls, name: str) -> _File:
        content = files("binhdan.runtime.server").joinpath("page", *name.split("/")).read_bytes()
        tag = hashlib.sha256(content).hexdigest()[:32]
        return cls(content, _HEADERS | {"ETag": f'"{tag}"'})

    def response(self, request: Request, content_type: str) -> Response:
        cached = request.headers.get("if-none-match", "").split(",")
        if any(tag.strip().removeprefix("W/") in ("*", self.headers["ETag"]) for tag in cached):
            return Response(status_code=304, headers=self.headers)
        headers = self.headers | {"Content-Type": content_type, "Content-Length": str(len(self.content))}
        return Response(b"" if request.method == "HEAD" else self.content, headers=headers)


def _add(router: APIRouter, path: str, name: str) -> None:
    file, content_type = _File.read(name), _TYPES[name.rpartition(".")[2]]

    async def get(request: Request) -> Response:
        return file.response(request, content_type)

    router.add_route(path, get, methods=["GET"], include_in_schema=False)  # and HEAD


router = APIRouter()
for _name in FILES:
    _add(router, "/" if _name == INDEX else f"/page/{_name}", _name)
