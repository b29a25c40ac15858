"""/v1/responses: text in, text out, nothing stored."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from fastapi import APIRouter, Request, Response

from binhdan.runtime.results import Answer
from binhdan.runtime.server.access.keys import Caller
from binhdan.runtime.server.answers.generation import Job
from binhdan.runtime.server.answers.lifecycle import Exchange, respond
from binhdan.runtime.server.answers.logprobs import chat_logprobs
from binhdan.runtime.server.api.chat import ChatReply
from binhdan.runtime.server.api.schemas.chat import ChatBody
from binhdan.runtime.server.api.schemas.responses import ResponseBody
from binhdan.runtime.server.http.errors import ApiError
from binhdan.runtime.server.http.sse import Frames
from binhdan.runtime.server.models.pool import LoadedModel

router = APIRouter()


@router.post("/v1/responses")
async def create_response(request: Request, body: ResponseBody) -> Response:
    """The answer to a text or a conversation."""
    refusal = body.refusal()
    if refusal is not None:
        field, why = refusal
        raise ApiError(400, why, code="unsupported_parameter", param=field)
    reply = _Reply(body)
    exchange = Exchange(request, body.model, reply.prepare)
    return await respond(
        request, exchange, stream=bool(body.stream), whole=reply.whole, frames=reply.frames, named=True
    )


class _Reply:
    """The answer in the shape of a response object, or of the events that build it."""

    def __init__(self, body: ResponseBody) -> None:
        self._body = body
        self._wants_logprobs = "message.output_text.logprobs" in (body.include or ())

    def prepare(self, loaded: LoadedModel, caller: Caller) -> Job:
        """The job of the conversation that this stands for."""
        body = self._body
        chat = ChatBody.model_construct(
            messages=body.messages(),
            temperature=body.temperature,
            top_p=body.top_p,
            max_completion_tokens=body.max_output_tokens,
            logprobs=self._wants_logprobs or None,
            top_logprobs=body.top_logprobs,
            response_format=body.text.format.response_format(),
            reasoning_effort=body.reasoning.effort if body.reasoning else None,
        )
        return ChatReply(chat).prepare(loaded, caller)

    def whole(self, exchange: Exchange) -> dict[str, Any]:
        answer = exchange.generation.answer(0)
        return self._response(exchange, _status(answer), self._output(exchange, answer), exchange.usage())

    async def frames(self, exchange: Exchange) -> Frames:
        sequence = count()

        def event(kind: str, **fields: Any) -> dict[str, Any]:
            return {"type": kind, "sequence_number": next(sequence), **fields}

        begun = self._response(exchange, "in_progress", [], None)
        yield [event("response.created", response=begun), event("response.in_progress", response=begun)]
        items = _Items(exchange)
        async for batch in exchange.generation.batches():
            values: list[dict[str, Any] | bytes] = []
            for _, piece in batch:
                if not piece.text:
                    continue
                values += [event(kind, **fields) for kind, fields in items.open(piece.kind)]
                delta: dict[str, Any] = {"delta": piece.text}
                if piece.kind == "text":
                    tokens = [piece.logprob] if piece.logprob is not None else []
                    delta["logprobs"] = chat_logprobs(exchange.loaded.model.tokenizer, tokens)["content"]
                values.append(event(items.delta_event, **items.place, **delta))
            yield values
        answer = exchange.generation.answer(0)
        values = [event(kind, **fields) for kind, fields in items.open("text")]
        values += [event(kind, **fields) for kind, fields in items.close(answer)]
        status = _status(answer)
        response = self._response(exchange, status, self._output(exchange, answer), exchange.usage())
        yield [*values, event(f"response.{status}", response=response)]

    def _output(self, exchange: Exchange, answer: Answer) -> list[dict[str, Any]]:
        items = []
        if answer.reasoning:
            items.append(_reasoning_item(exchange, answer.reasoning))
        logprobs = []
        if answer.logprobs is not None:
            logprobs = chat_logprobs(exchange.loaded.model.tokenizer, answer.logprobs)["content"]
        return [*items, _message_item(exchange, answer.text, _status(answer), logprobs)]

    def _response(
        self, exchange: Exchange, status: str, output: list[dict[str, Any]], usage: dict[str, Any] | None
    ) -> dict[str, Any]:
        body = self._body
        incomplete = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            "id": f"resp_{exchange.id}",
            "object": "response",
            "created_at": exchange.created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": incomplete,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "model": exchange.loaded.name,
            "output": output,
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": body.reasoning.effort if body.reasoning else None, "summary": None},
            "store": False,
            "temperature": body.temperature or 0.0,
            "text": {"format": body.text.format.model_dump(by_alias=True, exclude_none=True)},
            "tool_choice": "none",
            "tools": [],
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "truncation": "disabled",
            "usage": None if usage is None else _usage(usage),
            "user": body.user,
        }


class _Items:
    """The output items of a stream: opened by their first piece, closed by the next item or the end."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._kinds: list[str] = []
        self._texts: list[str] = []

    @property
    def delta_event(self) -> str:
        return f"response.{self._part_kind()}.delta"

    @property
    def place(self) -> dict[str, Any]:
        """Where the open item's part stands."""
        index = len(self._kinds) - 1
        return {"item_id": self._item("")["id"], "output_index": index, "content_index": 0}

    def open(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Events that make `kind` the open item."""
        if self._kinds and self._kinds[-1] == kind:
            return
        if self._kinds:
            yield from self._close(self._exchange.generation.answer(0).reasoning, "completed")
        self._kinds.append(kind)
        yield (
            "response.output_item.added",
            {"output_index": self.place["output_index"], "item": self._item(None)},
        )
        yield "response.content_part.added", {**self.place, "part": self._part("")}

    def close(self, answer: Answer) -> Iterator[tuple[str, dict[str, Any]]]:
        """Events that end the last item."""
        yield from self._close(answer.text, _status(answer))

    def _close(self, text: str, status: str) -> Iterator[tuple[str, dict[str, Any]]]:
        extra: dict[str, Any] = {"logprobs": []} if self._kinds[-1] == "text" else {}
        yield f"response.{self._part_kind()}.done", {**self.place, "text": text, **extra}
        yield "response.content_part.done", {**self.place, "part": self._part(text)}
        item = self._item(text, status)
        yield "response.output_item.done", {"output_index": self.place["output_index"], "item": item}

    def _part_kind(self) -> str:
        return "output_text" if self._kinds[-1] == "text" else "reasoning_text"

    def _part(self, text: str) -> dict[str, Any]:
        return _text_part(text, []) if self._kinds[-1] == "text" else {"type": "reasoning_text", "text": text}

    def _item(self, text: str | None, status: str = "in_progress") -> dict[str, Any]:
        """`text` None: nothing in it yet."""
        if self._kinds[-1] == "text":
            item = _message_item(self._exchange, text or "", status, [])
        else:
            item = _reasoning_item(self._exchange, text or "")
        return item | {"content": []} if text is None else item


def _status(answer: Answer) -> str:
    return "completed" if answer.finish_reason == "stop" else "incomplete"


def _text_part(text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _message_item(
    exchange: Exchange, text: str, status: str, logprobs: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "id": f"msg_{exchange.id}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [_text_part(text, logprobs)],
    }


def _reasoning_item(exchange: Exchange, text: str) -> dict[str, Any]:
    return {
        "id": f"rs_{exchange.id}",
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": text}],
    }


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": usage["prompt_tokens_details"],
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": usage["completion_tokens_details"],
        "total_tokens": usage["total_tokens"],
        "binhdan": usage["binhdan"],
    }
