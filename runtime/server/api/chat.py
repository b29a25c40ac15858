"""/v1/chat/completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from fastapi import APIRouter, Request, Response

from binhdan.runtime.errors import BadFormatError
from binhdan.runtime.prompting.chat import Message
from binhdan.runtime.results import Answer, Piece, TokenLogprob
from binhdan.runtime.server.access.keys import Caller
from binhdan.runtime.server.answers.deltas import Reader
from binhdan.runtime.server.answers.generation import Job
from binhdan.runtime.server.answers.lifecycle import Exchange, respond
from binhdan.runtime.server.answers.logprobs import chat_logprobs
from binhdan.runtime.server.answers.response_format import format_spec, mask_maker
from binhdan.runtime.server.api.completions import FINISH_REASONS
from binhdan.runtime.server.api.schemas.chat import ChatBody, NamedTool
from binhdan.runtime.server.http.errors import ApiError
from binhdan.runtime.server.http.sse import Frames, TextFrames
from binhdan.runtime.server.models.pool import LoadedModel
from binhdan.runtime.structured.tools import ToolPlan, plan_tools

router = APIRouter()


@router.post("/v1/chat/completions")
async def create_chat_completion(request: Request, body: ChatBody) -> Response:
    """The assistant's next turn in a conversation."""
    if body.top_logprobs is not None and not body.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs to be true", param="top_logprobs")
    chat = ChatReply(body)
    exchange = Exchange(request, body.model, chat.prepare)
    return await respond(request, exchange, stream=bool(body.stream), whole=chat.whole, frames=chat.frames)


class ChatReply:
    """From the body of a request to its job, and from the answers to OpenAI's objects."""

    def __init__(self, body: ChatBody) -> None:
        self._body = body
        self._tools: ToolPlan | None = None

    def prepare(self, loaded: LoadedModel, caller: Caller) -> Job:
        """Runs in a worker thread."""
        body, tokenizer = self._body, loaded.model.tokenizer
        choice = body.tool_choice
        self._tools = plan_tools(
            tokenizer.chat_template_source,
            [tool.model_dump(exclude_none=True) for tool in body.tools or []],
            choice.model_dump() if isinstance(choice, NamedTool) else choice,
            body.parallel_tool_calls is not False,
        )
        spec = format_spec(body.response_format)
        if spec is not None and self._tools.spec is not None:
            raise ApiError(
                400, "an answer is of a given form or calls tools, not both", param="response_format"
            )
        try:
            prompt = tokenizer.chat_prompt(
                cast("list[Message]", self._tools.messages([message.message() for message in body.messages])),
                thinking=body.thinking,
                tools=self._tools.template_tools,
                template_options=body.chat_template_kwargs,
            )
        except BadFormatError:  # it has rendered others before
            raise ApiError(400, "the model's chat template cannot render this conversation") from None
        return Job(
            prompts=[prompt],
            options=body.generation(body.most_tokens, body.wanted_logprobs, body.thinking),
            n=body.n or 1,
            new_mask=mask_maker(loaded, spec or self._tools.spec, prompt),
            cache_salt=caller.salt,
            use_cache=body.cache_prompt,
        )

    def _reader(self) -> Reader:
        return Reader(None if self._tools is None else self._tools.parser())

    def whole(self, exchange: Exchange) -> dict[str, Any]:
        """The object of a request that does not stream."""
        choices = [self._choice(exchange, i, answer) for i, answer in enumerate(exchange.answers())]
        return _object(exchange, "chat.completion", choices) | {"usage": exchange.usage()}

    async def frames(self, exchange: Exchange) -> Frames:
        """The chunks of one that does."""
        generation = exchange.generation
        readers = [self._reader() for _ in range(len(generation))]
        texts = [_text_frames(exchange, index) for index in range(len(generation))]
        ended: set[int] = set()

        def endings() -> list[dict[str, Any] | bytes]:
            values: list[dict[str, Any] | bytes] = []
            for index, reader in enumerate(readers):
                if generation.finished(index) and index not in ended:
                    ended.add(index)
                    values += [_chunk(exchange, index, delta) for delta in reader.finish()]
                    reason = _finish_reason(generation.answer(index), reader)
                    values.append(_chunk(exchange, index, {}, reason=reason))
            return values

        yield [_chunk(exchange, i, {"role": "assistant", "content": ""}) for i in range(len(readers))]
        async for batch in generation.batches():
            values: list[dict[str, Any] | bytes] = []
            for index, piece in batch:
                if readers[index].plain and piece.kind == "text" and piece.logprob is None:
                    if piece.text:
                        values.append(texts[index](piece.text))
                    continue
                logprobs = self._logprobs(exchange, () if piece.logprob is None else (piece.logprob,))
                deltas = readers[index].push(piece)
                if not deltas and logprobs is not None:
                    deltas = [{}]
                for delta in deltas:
                    values.append(_chunk(exchange, index, delta, logprobs))
                    logprobs = None
            yield values + endings()
        yield endings()
        if self._body.stream_options is not None and self._body.stream_options.include_usage:
            yield [_object(exchange, "chat.completion.chunk", []) | {"usage": exchange.usage()}]

    def _choice(self, exchange: Exchange, index: int, answer: Answer) -> dict[str, Any]:
        reader, message = self._reader(), _Message()
        for delta in [*reader.push(Piece(answer.text)), *reader.finish()]:
            message.add(delta)
        if answer.reasoning:
            message.reasoning = answer.reasoning
        return {
            "index": index,
            "message": message.value(),
            "logprobs": self._logprobs(exchange, answer.logprobs),
            "finish_reason": _finish_reason(answer, reader),
        }

    @staticmethod
    def _logprobs(exchange: Exchange, tokens: Sequence[TokenLogprob] | None) -> dict[str, Any] | None:
        return chat_logprobs(exchange.loaded.model.tokenizer, tokens) if tokens else None


class _Message:
    """An assistant's message, put together from deltas."""

    def __init__(self) -> None:
        self.content = ""
        self.reasoning = ""
        self.calls: list[dict[str, Any]] = []

    def add(self, delta: dict[str, Any]) -> None:
        self.content += delta.get("content", "")
        self.reasoning += delta.get("reasoning_content", "")
        for call in delta.get("tool_calls", ()):
            if call["index"] == len(self.calls):
                self.calls.append(
                    {"id": call["id"], "type": "function", "function": {"name": "", "arguments": ""}}
                )
            for field, text in call["function"].items():
                self.calls[call["index"]]["function"][field] += text

    def value(self) -> dict[str, Any]:
        """As OpenAI's object has it."""
        content = self.content if self.content or not self.calls else None
        value: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if self.reasoning:
            value["reasoning_content"] = self.reasoning
        if self.calls:
            value["tool_calls"] = self.calls
        return value


def _text_frames(exchange: Exchange, index: int) -> TextFrames:
    return TextFrames(lambda text: _chunk(exchange, index, {"content": text}))


def _finish_reason(answer: Answer, reader: Reader) -> str:
    reason = FINISH_REASONS[answer.finish_reason]
    return "tool_calls" if reader.called and reason == "stop" else reason


def _chunk(
    exchange: Exchange,
    index: int,
    delta: dict[str, Any],
    logprobs: dict[str, Any] | None = None,
    reason: str | None = None,
) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
    return _object(exchange, "chat.completion.chunk", [choice])


def _object(exchange: Exchange, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{exchange.id}",
        "object": kind,
        "created": exchange.created,
        "model": exchange.loaded.name,
        "choices": choices,
    }
