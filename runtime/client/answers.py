"""Answers of a loaded model: ask, chat, complete, and the same for asyncio."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, Unpack, cast, overload

from binhdan.runtime.client.adapter import Adapter, handle_of
from binhdan.runtime.client.base import ModelBase, Tools
from binhdan.runtime.client.request import AnswerBuilder, Request, TokenMask
from binhdan.runtime.client.stream import AsyncStream, PrepareRequest, Stream, SubmitRequest
from binhdan.runtime.errors import IncompleteAnswerError, InvalidArgumentError
from binhdan.runtime.options import GenerationChanges, GenerationOptions, with_changes
from binhdan.runtime.prompting.chat import AnyMessage, check_messages
from binhdan.runtime.prompting.tokenizer import Prompt
from binhdan.runtime.results import Answer

if TYPE_CHECKING:
    from binhdan.runtime.structured.constraints import Spec
    from binhdan.runtime.structured.tools import ToolPlan


class ResponseModel(Protocol):
    """The methods of a pydantic model that `response_model` uses."""

    @classmethod
    def model_json_schema(cls) -> dict[str, Any]: ...
    @classmethod
    def model_validate_json(cls, json_data: str) -> Any: ...


T = TypeVar("T")


class Settings(GenerationChanges, total=False):
    """Keyword arguments of ask, chat and complete: fields of GenerationOptions, and these."""

    options: GenerationOptions | None  # the values of all other fields
    mask: TokenMask | None  # the tokens that are allowed next; see request.py
    adapter: Adapter | None  # of Model.load_adapter; None: the model alone
    # The form of the answer, at most one of them. Each needs binhdan[structured].
    json_schema: (
        Mapping[str, Any] | bool | None
    )  # JSON that is valid under this schema; True: any JSON object
    regex: str | None  # text that the expression matches as a whole (syntax of Rust's regex crate)
    grammar: str | None  # text of a grammar: llguidance's Lark, or llama.cpp's GBNF


class ChatSettings(Settings, total=False):
    """Keyword arguments of chat and achat."""

    tools: Tools | None  # functions that the model may call: Answer.tool_calls; needs binhdan[structured]
    tool_choice: (
        str | Mapping[str, Any] | None
    )  # as in OpenAI's API: "auto", "required", "none", or one function
    parallel_tool_calls: bool  # allow several calls in one answer; the default
    template_options: dict[str, Any] | None  # further variables of the chat template


# Makes a prompt from the options, and from the plan of the tools if there is one.
_MakePrompt = Callable[[GenerationOptions, "ToolPlan | None"], Prompt]


class Answerer(ModelBase):
    """The methods that generate text.

    `settings` are fields of GenerationOptions such as `max_tokens=100`, the fields of Settings, or `options`.
    With `stream=True` the result is a Stream of pieces. With a pydantic model as `response_model`, the answer
    is JSON of its schema, and the result is an object of it; raises IncompleteAnswerError if the answer ends
    early. All raise InvalidArgumentError for invalid arguments, TooLargeError for a prompt that the context
    cannot hold, BusyError when too many requests wait (unless the model was loaded with `wait_when_busy`).
    """

    @overload
    def ask(
        self,
        prompt: str,
        *,
        response_model: type[T],
        system: str | None = ...,
        stream: Literal[False] = ...,
        **settings: Unpack[Settings],
    ) -> T: ...
    @overload
    def ask(
        self,
        prompt: str,
        *,
        system: str | None = ...,
        stream: Literal[False] = ...,
        **settings: Unpack[Settings],
    ) -> Answer: ...
    @overload
    def ask(
        self, prompt: str, *, system: str | None = ..., stream: Literal[True], **settings: Unpack[Settings]
    ) -> Stream: ...
    @overload
    def ask(
        self, prompt: str, *, system: str | None = ..., stream: bool, **settings: Unpack[Settings]
    ) -> Answer | Stream: ...
    def ask(
        self,
        prompt: str,
        *,
        response_model: Any = None,
        system: str | None = None,
        stream: bool = False,
        **settings: Unpack[Settings],
    ) -> Any:
        """Answers one question. `system` is an instruction that precedes it."""
        return self._run(self._ask(prompt, system), stream, response_model, settings)

    @overload
    def aask(
        self,
        prompt: str,
        *,
        response_model: type[T],
        system: str | None = ...,
        **settings: Unpack[Settings],
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def aask(self, prompt: str, *, system: str | None = ..., **settings: Unpack[Settings]) -> AsyncStream: ...
    def aask(
        self,
        prompt: str,
        *,
        response_model: Any = None,
        system: str | None = None,
        **settings: Unpack[Settings],
    ) -> Any:
        """`ask` for asyncio: `async for piece in model.aask(…)` or `answer = await model.aask(…)`."""
        return self._run_async(self._ask(prompt, system), response_model, settings)

    @overload
    def chat(
        self,
        messages: Sequence[AnyMessage],
        *,
        response_model: type[T],
        stream: Literal[False] = ...,
        **settings: Unpack[ChatSettings],
    ) -> T: ...
    @overload
    def chat(
        self,
        messages: Sequence[AnyMessage],
        *,
        stream: Literal[False] = ...,
        **settings: Unpack[ChatSettings],
    ) -> Answer: ...
    @overload
    def chat(
        self, messages: Sequence[AnyMessage], *, stream: Literal[True], **settings: Unpack[ChatSettings]
    ) -> Stream: ...
    @overload
    def chat(
        self, messages: Sequence[AnyMessage], *, stream: bool, **settings: Unpack[ChatSettings]
    ) -> Answer | Stream: ...
    def chat(
        self,
        messages: Sequence[AnyMessage],
        *,
        response_model: Any = None,
        stream: bool = False,
        **settings: Unpack[ChatSettings],
    ) -> Any:
        """The next turn of the assistant. Content is a text, or a list of {"type": "text", "text": …}."""
        return self._run(self._chat(messages, settings), stream, response_model, settings)

    @overload
    def achat(
        self,
        messages: Sequence[AnyMessage],
        *,
        response_model: type[T],
        **settings: Unpack[ChatSettings],
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def achat(self, messages: Sequence[AnyMessage], **settings: Unpack[ChatSettings]) -> AsyncStream: ...
    def achat(
        self,
        messages: Sequence[AnyMessage],
        *,
        response_model: Any = None,
        **settings: Unpack[ChatSettings],
    ) -> Any:
        """`chat` for asyncio: `async for piece in model.achat(…)` or `answer = await model.achat(…)`."""
        return self._run_async(self._chat(messages, settings), response_model, settings)

    @overload
    def complete(
        self,
        prompt: str | Sequence[int],
        *,
        response_model: type[T],
        stream: Literal[False] = ...,
        **settings: Unpack[Settings],
    ) -> T: ...
    @overload
    def complete(
        self, prompt: str | Sequence[int], *, stream: Literal[False] = ..., **settings: Unpack[Settings]
    ) -> Answer: ...
    @overload
    def complete(
        self, prompt: str | Sequence[int], *, stream: Literal[True], **settings: Unpack[Settings]
    ) -> Stream: ...
    @overload
    def complete(
        self, prompt: str | Sequence[int], *, stream: bool, **settings: Unpack[Settings]
    ) -> Answer | Stream: ...
    def complete(
        self,
        prompt: str | Sequence[int],
        *,
        response_model: Any = None,
        stream: bool = False,
        **settings: Unpack[Settings],
    ) -> Any:
        """Continues a text, or tokens, without a chat template."""
        return self._run(self._complete(prompt), stream, response_model, settings)

    @overload
    def acomplete(
        self, prompt: str | Sequence[int], *, response_model: type[T], **settings: Unpack[Settings]
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def acomplete(self, prompt: str | Sequence[int], **settings: Unpack[Settings]) -> AsyncStream: ...
    def acomplete(
        self, prompt: str | Sequence[int], *, response_model: Any = None, **settings: Unpack[Settings]
    ) -> Any:
        """`complete` for asyncio."""
        return self._run_async(self._complete(prompt), response_model, settings)

    # ---- prompts -------------------------------------------------------------------------------------------

    def _ask(self, prompt: str, system: str | None) -> _MakePrompt:
        return lambda options, _: self.tokenizer.chat_prompt(
            _question(prompt, system), thinking=options.thinking
        )

    def _chat(self, messages: Sequence[AnyMessage], settings: ChatSettings) -> _MakePrompt:
        template_options = settings.pop("template_options", None)

        def make(options: GenerationOptions, tools: ToolPlan | None) -> Prompt:
            checked: Sequence[AnyMessage] = messages
            if tools is None and any(message.get("tool_calls") for message in messages):
                tools = self._plan_tools({})
            if tools is not None:
                checked = tools.messages(check_messages(messages))
            return self.tokenizer.chat_prompt(
                checked,
                thinking=options.thinking,
                tools=None if tools is None else tools.template_tools,
                template_options=template_options,
            )

        return make

    def _complete(self, prompt: str | Sequence[int]) -> _MakePrompt:
        return lambda *_: self.tokenizer.text_prompt(prompt) if isinstance(prompt, str) else Prompt(prompt)

    # ---- requests ------------------------------------------------------------------------------------------

    def _run(
        self,
        make_prompt: _MakePrompt,
        want_stream: bool,
        response_model: type[ResponseModel] | None,
        settings: Settings,
    ) -> Any:
        if response_model is None:
            stream = Stream(self._prepare(make_prompt, settings), self.options.wait_when_busy)
            return stream if want_stream else stream.answer()
        if want_stream:
            raise InvalidArgumentError(
                "response_model: expected stream=False; to stream the JSON text, use "
                "json_schema=TheModel.model_json_schema()",
                param="response_model",
            )
        settings = _with_schema(settings, response_model)
        stream = Stream(self._prepare(make_prompt, settings), self.options.wait_when_busy)
        return _validated(stream.answer(), response_model)

    def _run_async(
        self, make_prompt: _MakePrompt, response_model: type[ResponseModel] | None, settings: Settings
    ) -> Any:
        if response_model is None:
            return AsyncStream(self._prepare(make_prompt, settings), self.options.wait_when_busy)
        settings = _with_schema(settings, response_model)
        stream = AsyncStream(self._prepare(make_prompt, settings), self.options.wait_when_busy)

        async def read() -> Any:
            return _validated(await stream, response_model)

        return read()

    def _prepare(self, make_prompt: _MakePrompt, settings: Settings) -> PrepareRequest:
        """Validates the settings. AsyncStream calls the result in a worker thread."""
        changes: dict[str, Any] = {**settings}
        mask: TokenMask | None = changes.pop("mask", None)
        adapter = handle_of(changes.pop("adapter", None), self)
        form = {name: changes.pop(name, None) for name in ("json_schema", "regex", "grammar")}
        tools = {name: changes.pop(name, None) for name in ("tools", "tool_choice", "parallel_tool_calls")}
        options = with_changes(changes.pop("options", None), changes)
        given = [
            name
            for name, value in {**form, "tools": tools["tools"], "mask": mask}.items()
            if value is not None
        ]
        if len(given) > 1:
            raise InvalidArgumentError(
                f"expected one of {' and '.join(given)}; remove the others", param=given[1]
            )

        def prepare() -> SubmitRequest:
            plan = None if tools["tools"] is None else self._plan_tools(tools)
            prompt = make_prompt(options, plan)
            spec = _spec(form) if plan is None else plan.spec
            answer_mask = mask
            if spec is not None:
                from binhdan.runtime.structured.constraints import thinking_of

                answer_mask = self.constraints().compile(spec, thinking_of(prompt)).mask()

            def submit() -> tuple[Request, AnswerBuilder]:
                builder = AnswerBuilder(
                    prompt, self.tokenizer, options, None if plan is None else plan.parser()
                )
                request = Request(
                    self._library,
                    self._engine,
                    prompt.tokens,
                    prompt.settings(options),
                    answer_mask,
                    adapter,
                )
                return request, builder

            return submit

        return prepare

    def _plan_tools(self, settings: dict[str, Any]) -> ToolPlan:
        from binhdan.runtime.structured.tools import plan_tools

        return plan_tools(
            self.tokenizer.chat_template_source,
            list(settings.get("tools") or ()),
            settings.get("tool_choice"),
            settings.get("parallel_tool_calls") is not False,
        )


def _question(prompt: str, system: str | None) -> list[AnyMessage]:
    if not prompt.strip():
        raise InvalidArgumentError("the prompt is empty; expected a text that is not blank")
    question: AnyMessage = {"role": "user", "content": prompt}
    return [{"role": "system", "content": system}, question] if system else [question]


def _spec(form: dict[str, Any]) -> Spec | None:
    """The constraint that the settings describe."""
    schema, regex, grammar = form["json_schema"], form["regex"], form["grammar"]
    if schema is None and regex is None and grammar is None:
        return None
    from binhdan.runtime.structured import constraints

    if schema is True:
        return constraints.json_object("json_schema")
    if schema is not None:
        return constraints.json_schema(dict(schema) if isinstance(schema, Mapping) else schema, "json_schema")
    return constraints.regex(regex) if regex is not None else constraints.grammar(grammar)


def _with_schema(settings: Settings, response_model: type[ResponseModel]) -> Settings:
    if not hasattr(response_model, "model_json_schema"):
        raise InvalidArgumentError(
            f"response_model: expected a pydantic model, got {response_model!r}",
            param="response_model",
        )
    if settings.get("json_schema") is not None:
        raise InvalidArgumentError("expected response_model or json_schema, not both", param="json_schema")
    return cast(Settings, {**settings, "json_schema": _closed(response_model.model_json_schema())})


def _closed(schema: Any) -> Any:
    """A pydantic schema without additional properties, unless it says otherwise: pydantic ignores them, and a
    small model may write them without end."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            closed[key] = {name: _closed(item) for name, item in value.items()}
        else:
            closed[key] = value if key in ("const", "default", "enum", "examples") else _closed(value)
    return {"additionalProperties": False, **closed} if "properties" in schema else closed


def _validated(answer: Answer, response_model: type[ResponseModel]) -> Any:
    if answer.finish_reason != "stop":
        raise IncompleteAnswerError(
            f"the answer ended before its JSON was complete (finish reason {answer.finish_reason}, "
            f"{answer.answer_tokens} tokens); raise max_tokens, or load the model with a larger context"
        )
    return response_model.model_validate_json(answer.text)
