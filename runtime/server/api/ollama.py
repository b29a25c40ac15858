"""Ollama's API: /api/chat, /api/generate, /api/embed, /api/tags, /api/show, /api/version. Served with
--ollama.

Streams are lines of JSON. Answers are greedy unless the options set a temperature, as in the other APIs.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from binhdan.runtime.ffi import library
from binhdan.runtime.options import EmbeddingOptions, GenerationOptions
from binhdan.runtime.results import Answer, Piece
from binhdan.runtime.server.access.keys import Caller
from binhdan.runtime.server.answers.deltas import DeltaBuilder, MessageBuilder
from binhdan.runtime.server.answers.embedding import EmbeddingPlan, run_embeddings
from binhdan.runtime.server.answers.generation import GenerationPlan
from binhdan.runtime.server.answers.lifecycle import RequestLifecycle, respond
from binhdan.runtime.server.answers.response_format import mask_factory
from binhdan.runtime.server.api.body import Body, EchoedBody, RequestBody
from binhdan.runtime.server.api.common import (
    FINISH_REASONS,
    MAX_STOPS,
    MAX_TEXTS,
    JsonObject,
    ModelName,
    StopText,
    TokenCount,
    nfc,
    off,
    top_p,
)
from binhdan.runtime.server.api.conversation import (
    MAX_MESSAGES,
    ChatMessage,
    FunctionCall,
    Tool,
    ToolCall,
    render_prompt,
)
from binhdan.runtime.server.api.prompts import to_prompt
from binhdan.runtime.server.context import Server, server_of
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http.json_route import JsonRoute
from binhdan.runtime.server.http.sse import Frames
from binhdan.runtime.server.models.pool import LoadedModel
from binhdan.runtime.structured import constraints
from binhdan.runtime.structured.tools import MAX_TOOLS, ToolPlan, plan_tools

router = APIRouter(route_class=JsonRoute, tags=["ollama"])


# ---- schema ------------------------------------------------------------------------------------------------


class Call(EchoedBody):
    function: FunctionCall


class OllamaMessage(EchoedBody):
    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    thinking: str | None = None
    tool_calls: Annotated[list[Call] | None, Field(max_length=MAX_TOOLS)] = None
    tool_name: str | None = None
    images: Annotated[list[Any] | None, Field(max_length=0)] = None  # no model here reads images

    def message(self) -> ChatMessage:
        """The same in OpenAI's form."""
        calls = [ToolCall(function=call.function) for call in self.tool_calls or ()]
        return ChatMessage(
            role=self.role,
            content=self.content,
            tool_calls=calls or None,
            reasoning_content=self.thinking,
            name=self.tool_name,
        )


class Options(Body):
    """Options of the engine. Those of loading, such as `num_ctx`, are the operator's, and reported."""

    num_predict: Annotated[TokenCount, off(-1, -2, 0)] = None
    temperature: Annotated[float | None, Field(ge=0, le=100)] = None
    top_k: Annotated[int | None, Field(ge=0, lt=2**31), off(-1)] = None
    top_p: Annotated[float | None, Field(ge=0, le=1)] = None
    min_p: Annotated[float | None, Field(ge=0, le=1)] = None
    repeat_penalty: Annotated[float | None, Field(gt=0, le=100)] = None
    presence_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**64), off(-1)] = None
    stop: StopText | Annotated[list[StopText], Field(max_length=MAX_STOPS)] | None = None

    def generation(self, thinking: bool) -> GenerationOptions:
        """The engine's options."""
        stop = self.stop or ()
        return GenerationOptions(
            max_tokens=self.num_predict,
            temperature=self.temperature or 0.0,
            top_k=self.top_k or 0,
            top_p=top_p(self.top_p),
            min_p=self.min_p or 0.0,
            repetition_penalty=self.repeat_penalty or 1.0,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            seed=None if self.seed is None else self.seed % 2**64,
            stop=tuple(map(nfc, (stop,) if isinstance(stop, str) else stop)),
            thinking=thinking,
        )


class Generating(RequestBody):
    """The fields that /api/chat and /api/generate share."""

    model: ModelName = None
    stream: bool = True
    format: Literal["json", ""] | JsonObject | None = None
    options: Options = Options()
    think: bool | Literal["low", "medium", "high"] | None = None
    keep_alive: float | str | None = None  # accepted and ignored: --idle-unload unloads models

    def spec(self) -> constraints.Spec | None:
        """The constraint of the answer. Raises InvalidArgumentError."""
        if not self.format:
            return None
        if self.format == "json":
            return constraints.json_object("format")
        return constraints.json_schema(self.format, "format", strict=False)


class ChatBody(Generating):
    messages: Annotated[list[OllamaMessage], Field(max_length=MAX_MESSAGES)]
    tools: Annotated[list[Tool] | None, Field(max_length=MAX_TOOLS)] = None

    def conversation(self) -> list[ChatMessage]:
        return [message.message() for message in self.messages]


class GenerateBody(Generating):
    prompt: str = ""
    suffix: Annotated[str | None, Field(max_length=0)] = None
    system: str | None = None
    raw: bool = False  # no chat template
    images: Annotated[list[Any] | None, Field(max_length=0)] = None
    context: list[int] | None = None  # accepted and ignored: send the conversation to /api/chat
    tools: None = None

    def conversation(self) -> list[ChatMessage]:
        system = [ChatMessage(role="system", content=self.system)] if self.system else []
        return [*system, ChatMessage(role="user", content=self.prompt)]


class EmbedBody(RequestBody):
    model: ModelName = None
    input: str | Annotated[list[str], Field(max_length=MAX_TEXTS)] = ""
    prompt: str | None = None  # of the older /api/embeddings
    truncate: bool = True
    dimensions: Annotated[int | None, Field(ge=1)] = None
    options: JsonObject | None = None
    keep_alive: float | str | None = None


class ShowBody(RequestBody):
    model: ModelName = None
    name: ModelName = None
    verbose: bool = False


# ---- routes ------------------------------------------------------------------------------------------------


@router.post("/api/chat")
async def chat(request: Request, body: ChatBody) -> Response:
    """The assistant's next turn in a conversation."""
    if not body.messages:  # Ollama's clients load a model in this way
        return await _load(request, body.model, {"message": {"role": "assistant", "content": ""}})
    return await respond(request, _name(request, body.model), _Handler(body), stream=body.stream)


@router.post("/api/generate")
async def generate(request: Request, body: GenerateBody) -> Response:
    """The answer to one text."""
    if not body.prompt:
        return await _load(request, body.model, {"response": ""})
    return await respond(request, _name(request, body.model), _Handler(body), stream=body.stream)


@router.post("/api/embed")
async def embed(request: Request, body: EmbedBody) -> JSONResponse:
    """One vector for each text."""
    texts = [body.input] if isinstance(body.input, str) else body.input
    result = await _embed(request, body, texts)
    return JSONResponse(
        {
            "model": result.model,
            "embeddings": [vector.tolist() for vector in result.vectors],
            "prompt_eval_count": result.usage["prompt_tokens"],
        }
    )


@router.post("/api/embeddings")
async def embeddings(request: Request, body: EmbedBody) -> JSONResponse:
    """The vector of one text: the older form of /api/embed."""
    result = await _embed(request, body, [body.prompt or ""])
    return JSONResponse({"embedding": result.vectors[0].tolist()})


@router.get("/api/tags")
async def tags(request: Request) -> dict[str, Any]:
    """The models of this server."""
    server = server_of(request)
    return {"models": [_describe(server, name) for name in server.pool.names]}


@router.get("/api/ps")
async def running(request: Request) -> dict[str, Any]:
    """The models in memory."""
    server = server_of(request)
    return {"models": [_describe(server, loaded.name) for loaded in server.pool.loaded()]}


@router.post("/api/show")
async def show(request: Request, body: ShowBody) -> dict[str, Any]:
    """Facts about one model."""
    server = server_of(request)
    name = _name(request, body.model or body.name) or server.pool.default
    if name not in server.pool.names:
        raise server.pool.unknown(name)
    async with server.pool.use(name) as loaded:
        info, context = loaded.model.info, loaded.model.context
        template = loaded.model.tokenizer.chat_template_source or ""
    return {
        "modelfile": "",
        "parameters": "",
        "template": template,
        "details": _details(info.architecture),
        "model_info": {
            "general.architecture": info.architecture,
            "general.parameter_count": info.parameters,
            f"{info.architecture}.context_length": context,
            f"{info.architecture}.embedding_length": info.embedding,
        },
        "capabilities": ["completion", "tools"] if info.causal else ["embedding"],
    }


@router.get("/api/version")
async def version() -> dict[str, str]:
    """The version of this server."""
    return {"version": library().version()}


class _Handler:
    """Plans and answers one request."""

    named_events = False
    json_lines = True
    prompt_param = "messages"

    def __init__(self, body: ChatBody | GenerateBody) -> None:
        self._body = body
        self._is_chat = isinstance(body, ChatBody)
        self._tools: ToolPlan | None = None

    def plan(self, loaded: LoadedModel, caller: Caller) -> GenerationPlan:
        body, tokenizer = self._body, loaded.model.tokenizer
        options = body.options.generation(thinking=bool(body.think))
        form = body.spec()
        tools = [tool.model_dump(exclude_none=True) for tool in body.tools or ()]
        self._tools = plan_tools(tokenizer.chat_template_source, tools, answer=form)
        if isinstance(body, GenerateBody) and body.raw:
            prompt = to_prompt(tokenizer, body.prompt)
        else:
            prompt = render_prompt(tokenizer, body.conversation(), self._tools, options.thinking)
        return GenerationPlan(
            prompts=[prompt],
            options=options,
            new_mask=mask_factory(loaded, self._tools.spec or form, prompt),
            cache_salt=caller.salt,
        )

    def to_json(self, lifecycle: RequestLifecycle) -> dict[str, Any]:
        answer, builder, message = lifecycle.generation.answer(0), self._builder(), MessageBuilder()
        if answer.reasoning:
            message.add({"reasoning_content": answer.reasoning})
        for delta in [*builder.push(Piece(answer.text)), *builder.finish()]:
            message.add(delta)
        whole = message.message()
        text, thinking = whole["content"] or "", whole.get("reasoning_content", "")
        content = self._content(text, thinking, whole.get("tool_calls", ()))
        return self._object(lifecycle, content) | self._end(lifecycle, answer)

    async def to_frames(self, lifecycle: RequestLifecycle) -> Frames:
        """Lines of JSON, each with the next part; the last one has the usage."""
        builder, calls = self._builder(), MessageBuilder()

        def lines(deltas: list[dict[str, Any]]) -> list[dict[str, Any] | bytes]:
            values: list[dict[str, Any] | bytes] = []
            for delta in deltas:
                if "tool_calls" in delta:  # a call is sent when it is complete
                    calls.add(delta)
                    continue
                content = self._content(delta.get("content", ""), delta.get("reasoning_content", ""), ())
                values.append(self._object(lifecycle, content) | {"done": False})
            return values

        async for batch in lifecycle.generation.batches():
            yield [line for _, piece in batch for line in lines(builder.push(piece))]
        values = lines(builder.finish())
        if found := calls.message().get("tool_calls"):
            values.append(self._object(lifecycle, self._content("", "", found)) | {"done": False})
        last = self._object(lifecycle, self._content("", "", ()))
        yield [*values, last | self._end(lifecycle, lifecycle.generation.answer(0))]

    def _builder(self) -> DeltaBuilder:
        return DeltaBuilder(None if self._tools is None else self._tools.parser())

    def _content(self, text: str, thinking: str, calls: Any) -> dict[str, Any]:
        """The part of an answer: under "message" for a chat, else under "response"."""
        extra: dict[str, Any] = {"thinking": thinking} if thinking else {}
        if not self._is_chat:
            return {"response": text, **extra}
        if calls:
            extra["tool_calls"] = [
                {
                    "function": {
                        "name": call["function"]["name"],
                        "arguments": _object(call["function"]["arguments"]),
                    }
                }
                for call in calls
            ]
        return {"message": {"role": "assistant", "content": text, **extra}}

    def _object(self, lifecycle: RequestLifecycle, content: dict[str, Any]) -> dict[str, Any]:
        return {"model": lifecycle.loaded.name, "created_at": _now(), **content}

    def _end(self, lifecycle: RequestLifecycle, answer: Answer) -> dict[str, Any]:
        """The fields of the last object. Times in nanoseconds."""
        record = lifecycle.record()
        return {
            "done": True,
            "done_reason": FINISH_REASONS[answer.finish_reason],
            "total_duration": round(record.total * 1e9),
            "load_duration": 0,
            "prompt_eval_count": record.prompt_tokens,
            "prompt_eval_duration": round(record.prefill * 1e9),
            "eval_count": record.answer_tokens,
            "eval_duration": round(record.decode * 1e9),
        }


# ---- helpers -----------------------------------------------------------------------------------------------


def _name(request: Request, name: str | None) -> str | None:
    """The model's name without Ollama's default tag."""
    if name and name not in server_of(request).pool.names:
        return name.removesuffix(":latest")
    return name


async def _load(request: Request, model: str | None, content: dict[str, Any]) -> JSONResponse:
    """Loads a model without a request to it."""
    async with server_of(request).pool.use(_name(request, model)) as loaded:
        name = loaded.name
    return JSONResponse({"model": name, "created_at": _now(), **content, "done": True, "done_reason": "load"})


async def _embed(request: Request, body: EmbedBody, texts: list[str]) -> Any:
    def plan(loaded: LoadedModel) -> EmbeddingPlan:
        loaded.model.check_embedder()
        if body.dimensions is not None and body.dimensions > loaded.model.info.embedding:
            message = f"dimensions: expected at most {loaded.model.info.embedding}, got {body.dimensions}"
            raise ApiError(400, message, param="dimensions")
        tokenizer = loaded.model.tokenizer
        prompts = [tokenizer.embedding_prompt(text, truncate=body.truncate) for text in texts]
        return EmbeddingPlan(prompts, EmbeddingOptions(dimensions=body.dimensions))

    return await run_embeddings(request, _name(request, body.model), plan, param="input")


def _describe(server: Server, name: str) -> dict[str, Any]:
    loaded, _ = server.pool.state(name)
    created = datetime.fromtimestamp(server.pool.created, UTC).isoformat()
    return {
        "name": name,
        "model": name,
        "modified_at": created,
        "size": 0 if loaded is None else loaded.info.file_bytes,
        "digest": "",
        "details": _details("" if loaded is None else loaded.info.architecture),
    }


def _details(architecture: str) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": architecture,
        "families": [architecture] if architecture else [],
        "parameter_size": "",
        "quantization_level": "",
    }


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _now() -> str:
    return datetime.now(UTC).isoformat()
