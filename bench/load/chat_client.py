"""A client of any server with OpenAI's API, for streamed and other answers, and the times of the answers.

While the clock runs, the client keeps an answer as bytes. `Call.reply()` parses it afterwards.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Any

import binhdan
from binhdan.bench.load.http_client import HttpClient, HttpError, Response

Body = Mapping[str, Any]
TIMED_OUT = "timed out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One parsed answer. Times are seconds of perf_counter. `error` is None for a complete answer."""

    due: float  # when the request had to be sent; a delay within the client counts too
    ended: float
    status: int = 0  # of HTTP; 0: no answer
    error: str | None = None
    text: str = ""
    finish_reason: str | None = None
    times: tuple[float, ...] = ()  # of each event of a stream with text, of the answer or its reasoning
    prompt_tokens: int | None = None  # None: the server does not report it
    cached_tokens: int | None = None
    answer_tokens: int | None = None
    binhdan: dict[str, Any] | None = None  # usage.binhdan: the times that the engine measured, and the bill
    logprobs: tuple[Any, ...] = ()

    @property
    def ttft(self) -> float | None:
        """Seconds to the first text; None without text.

        A token that ends within a character has no text yet, so the first text may need two or three tokens.
        """
        return self.times[0] - self.due if self.times else None

    @property
    def seconds(self) -> float:
        """Seconds to the last byte."""
        return self.ended - self.due

    @property
    def tpot(self) -> float | None:
        """Mean seconds per token after the first, to the last byte; None for fewer than two tokens."""
        count = len(self.times) if self.answer_tokens is None else self.answer_tokens
        return (self.ended - self.times[0]) / (count - 1) if count > 1 and self.times else None


@dataclass(frozen=True, slots=True)
class Call:
    """One request and the unparsed response."""

    due: float
    response: Response | None
    failure: str | None  # why the response is missing or incomplete
    ended: float

    def reply(self) -> Reply:
        """Parses the response."""
        if self.response is None or self.failure is not None:
            status = self.response.status if self.response is not None else 0
            return Reply(due=self.due, ended=self.ended, status=status, error=self.failure or "no response")
        if self.response.status != 200:
            error = f"status {self.response.status}: {_message(self.response.body)}"
            return Reply(due=self.due, ended=self.ended, status=self.response.status, error=error)
        return _parse(self, self.response)


class ChatClient:
    """`url` is the base_url of OpenAI's client; "/v1" is added to a URL without a path.

    An answer that has not ended after `seconds` counts as failed.
    """

    def __init__(self, url: str, *, api_key: str | None = None, seconds: float = 600.0) -> None:
        self.seconds = seconds
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.http = HttpClient(url, headers=headers)
        self.http.path = self.http.path or "/v1"

    async def model(self) -> str:
        """The name of the server's first model. Raises BinhdanError."""
        try:
            response = await self.http.request("GET", "/models")
            if response.status == 200:
                return str(json.loads(response.body)["data"][0]["id"])
            raise HttpError(f"status {response.status}: {_message(response.body)}")
        except HttpError as error:
            raise binhdan.BinhdanError(str(error)) from error
        except (ValueError, LookupError, TypeError) as error:
            raise binhdan.BinhdanError(
                "GET /models: expected OpenAI's list of models with at least 1 model, got another JSON value"
            ) from error

    async def chat(self, body: bytes, due: float | None = None) -> Call:
        """Sends a body of `chat_body`. Does not raise HttpError: the call holds the failure."""
        return await self.call("/chat/completions", body, due)

    async def call(
        self,
        path: str,
        body: bytes,
        due: float | None = None,
        stop_when: Callable[[Response], bool] | None = None,
    ) -> Call:
        """As `chat`, for any path. Closes the connection when `stop_when` returns true."""
        due = perf_counter() if due is None else due
        try:
            async with asyncio.timeout(self.seconds):
                response = await self.http.request("POST", path, body, stop_when=stop_when)
        except TimeoutError:
            return Call(due, None, TIMED_OUT, perf_counter())
        except HttpError as error:
            return Call(due, None, str(error), perf_counter())
        return Call(due, response, None, response.ended or perf_counter())

    def close(self) -> None:
        self.http.close()

    async def __aenter__(self) -> ChatClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def chat_body(model: str, messages: Sequence[Mapping[str, str]], answer_tokens: int, **more: Any) -> bytes:
    """The JSON of a request for a streamed, greedy answer of exactly `answer_tokens` tokens.

    `more` adds fields or replaces them.
    """
    return to_json(
        {
            "model": model,
            "messages": list(messages),
            "max_tokens": answer_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        | more
    )


def to_json(body: Body) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def events(pieces: Iterable[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    """The data of server-sent events (WHATWG HTML, section 9.2), and the time at which each event was
    complete.

    Lines end with LF or CRLF. Comments and fields other than `data` are skipped.
    """
    buffer = bytearray()
    data: list[bytes] = []
    for time, piece in pieces:
        buffer += piece
        while (end := buffer.find(b"\n")) >= 0:
            line = bytes(buffer[:end]).removesuffix(b"\r")
            del buffer[: end + 1]
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield time, b"\n".join(data)
                data = []


def _parse(call: Call, response: Response) -> Reply:
    texts: list[str] = []
    times: list[float] = []
    logprobs: list[Any] = []
    finish: str | None = None
    usage: dict[str, Any] = {}
    error, done = None, False
    streamed = "event-stream" in response.headers.get("content-type", "")
    chunks = events(response.pieces) if streamed else [(response.ended, response.body)]
    try:
        for time, data in chunks:
            if data == b"[DONE]":
                done = True
                continue
            chunk = json.loads(data)
            if "error" in chunk:
                error = str(chunk["error"])[:200]
            usage = _object(chunk.get("usage")) or usage
            for choice in chunk.get("choices") or ():
                delta = choice.get("delta") or choice.get("message") or {}
                text = delta.get("content") or delta.get("reasoning_content") or choice.get("text") or ""
                if not isinstance(text, str):
                    raise TypeError
                texts.append(text)
                if text and streamed:
                    times.append(time)
                finish = choice.get("finish_reason") or finish
                logprobs += (choice.get("logprobs") or {}).get("content") or ()
    except (ValueError, AttributeError, TypeError, RecursionError):
        error = "expected chunks of OpenAI's API as data of the stream, got something else"
    if error is None and finish is None:
        error = (
            "the answer has no finish_reason" if done or not streamed else "the stream ended before [DONE]"
        )
    return Reply(
        due=call.due,
        ended=call.ended,
        status=response.status,
        error=error,
        text="".join(texts),
        finish_reason=finish,
        times=tuple(times),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        cached_tokens=_count(_object(usage.get("prompt_tokens_details")).get("cached_tokens")),
        answer_tokens=_count(usage.get("completion_tokens")),
        binhdan=_object(usage.get("binhdan")) or None,
        logprobs=tuple(logprobs),
    )


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _message(body: bytes) -> str:
    """The message of OpenAI's error object, or the first 200 bytes of any other body."""
    try:
        return str(json.loads(body)["error"]["message"])[:200]
    except (ValueError, LookupError, TypeError, RecursionError):
        return body[:200].decode("utf-8", "replace").strip()
