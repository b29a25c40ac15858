"""Answers of any server with OpenAI's API, streamed or not, and what their times were.

Nothing is read out of an answer while the clock runs: `Call.reply()` does it afterwards.
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
from binhdan.bench.load.http import HttpClient, HttpError, Response

Body = Mapping[str, Any]
NO_END = "no end in time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What one answer said, and when; seconds of perf_counter. `error` None: it came whole."""

    due: float  # when it was to be sent: waiting for the client itself counts
    ended: float
    status: int = 0  # 0: no answer
    error: str | None = None
    text: str = ""
    finish_reason: str | None = None
    times: tuple[float, ...] = ()  # of each event of a stream with text of the answer or its reasoning
    prompt_tokens: int | None = None  # None: the server does not say
    cached_tokens: int | None = None
    answer_tokens: int | None = None
    binhdan: dict[str, Any] | None = None  # usage.binhdan: the engine's own times, the bill
    logprobs: tuple[Any, ...] = ()

    @property
    def first_token(self) -> float | None:
        """Seconds to the first text; None without any.

        Tokens that end within a character have no text yet, which may add one or two tokens to it.
        """
        return self.times[0] - self.due if self.times else None

    @property
    def seconds(self) -> float:
        """To the last byte."""
        return self.ended - self.due

    @property
    def per_token(self) -> float | None:
        """Mean seconds of a token after the first, to the last byte; None for fewer than two tokens."""
        count = len(self.times) if self.answer_tokens is None else self.answer_tokens
        return (self.ended - self.times[0]) / (count - 1) if count > 1 and self.times else None


@dataclass(frozen=True, slots=True)
class Call:
    """One request with its answer as it came."""

    due: float
    response: Response | None
    failure: str | None  # why there is none, or not all of it
    ended: float

    def reply(self) -> Reply:
        """Reads the answer."""
        if self.response is None or self.failure is not None:
            status = self.response.status if self.response is not None else 0
            return Reply(due=self.due, ended=self.ended, status=status, error=self.failure or "no answer")
        if self.response.status != 200:
            error = f"status {self.response.status}: {_message(self.response.body)}"
            return Reply(due=self.due, ended=self.ended, status=self.response.status, error=error)
        return _read(self)


class ChatClient:
    """`url` is what OpenAI's client calls base_url; without a path, "/v1" is added.

    An answer that has not ended after `seconds` counts as failed.
    """

    def __init__(self, url: str, *, api_key: str | None = None, seconds: float = 600.0) -> None:
        self.seconds = seconds
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.http = HttpClient(url, headers=headers)
        self.http.path = self.http.path or "/v1"

    async def model(self) -> str:
        """The first model of the server. Raises BinhdanError."""
        try:
            response = await self.http.request("GET", "/models")
            if response.status == 200:
                return str(json.loads(response.body)["data"][0]["id"])
            raise HttpError(f"status {response.status}: {_message(response.body)}")
        except HttpError as error:
            raise binhdan.BinhdanError(str(error)) from error
        except (ValueError, LookupError, TypeError) as error:
            raise binhdan.BinhdanError("/models: expected OpenAI's list of models") from error

    async def chat(self, body: bytes, due: float | None = None) -> Call:
        """Sends what `chat_body` made. Does not raise: what fails is in the call."""
        return await self.call("/chat/completions", body, due)

    async def call(
        self,
        path: str,
        body: bytes,
        due: float | None = None,
        enough: Callable[[Response], bool] | None = None,
    ) -> Call:
        """As `chat`, for any path; hangs up when `enough` says so."""
        due = perf_counter() if due is None else due
        try:
            async with asyncio.timeout(self.seconds):
                response = await self.http.request("POST", path, body, enough=enough)
        except TimeoutError:
            return Call(due, None, NO_END, perf_counter())
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
    """A greedy answer of exactly `answer_tokens`, streamed."""
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
    """The data of server-sent events (WHATWG HTML, section 9.2), with the time at which each was complete.

    Lines end with LF or CRLF, as servers write them. Comments and other fields are left out.
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


def _read(call: Call) -> Reply:
    texts: list[str] = []
    times: list[float] = []
    logprobs: list[Any] = []
    finish: str | None = None
    usage: dict[str, Any] = {}
    error, done = None, False
    response = call.response
    assert response is not None
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
        error = "an event holds no chunk of OpenAI's"
    if error is None and finish is None:
        error = "the answer has no finish_reason" if done or not streamed else "the stream ended early"
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
    """OpenAI's error message, or the beginning of whatever it is."""
    try:
        return str(json.loads(body)["error"]["message"])[:200]
    except (ValueError, LookupError, TypeError, RecursionError):
        return body[:200].decode("utf-8", "replace").strip()
