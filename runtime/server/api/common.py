"""Request fields, response fields and conversions that several endpoints share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from binhdan.runtime.errors import InvalidArgumentError
from binhdan.runtime.options import GenerationOptions
from binhdan.runtime.prompting.tokenizer import Prompt, Tokenizer
from binhdan.runtime.server.answers.response_format import FormatType, constraint_spec
from binhdan.runtime.server.errors import quoted
from binhdan.runtime.structured.constraints import Spec

MAX_STOPS = 16
MAX_STOP_CHARACTERS = 1000
MAX_TOKENS = 1_000_000  # in one array of token ids
MAX_TEXTS = 2048  # in one request

JsonObject = dict[str, Any]
ModelName = Annotated[str | None, Field(max_length=256)]  # None: the server's default model
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
StopText = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]
TokenIds = Annotated[list[int], Field(min_length=1, max_length=MAX_TOKENS)]
# A text or the tokens of one, or several of either.
TextOrTokens = (
    str
    | TokenIds
    | Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS)]
    | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_TEXTS)]
)
TokenCount = Annotated[int | None, Field(ge=1, lt=2**31)]

# binhdan's finish reason -> OpenAI's.
FINISH_REASONS = {"stop": "stop", "length": "length", "context": "length", "cancelled": "length"}


class Body(BaseModel):
    """The JSON object of a request, or an object inside it."""

    model_config = ConfigDict(extra="forbid", strict=False, allow_inf_nan=False, hide_input_in_errors=True)


class StreamOptions(Body):
    include_usage: bool = False
    include_obfuscation: bool = False  # accepted and ignored: this server adds no padding


class Sampling(Body):
    """Sampling parameters. Without them decoding is greedy. `top_k` and the fields after it extend OpenAI's
    API."""

    temperature: Annotated[float | None, Field(ge=0, le=100)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    presence_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**64)] = None
    stop: StopText | Annotated[list[StopText], Field(max_length=MAX_STOPS)] | None = None
    logit_bias: Annotated[dict[str, float] | None, Field(max_length=1024)] = None
    n: Annotated[int | None, Field(ge=1, le=128)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    top_k: Annotated[int | None, Field(ge=0, lt=2**31)] = None
    min_p: Annotated[float | None, Field(ge=0, le=1)] = None
    repetition_penalty: Annotated[
        float | None,
        Field(gt=0, le=100, validation_alias=AliasChoices("repetition_penalty", "repeat_penalty")),
    ] = None
    ignore_eos: bool = False
    cache_prompt: bool = True

    @property
    def include_usage(self) -> bool:
        """True if the stream ends with a chunk that holds the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @model_validator(mode="after")
    def _stream_options_need_stream(self) -> Sampling:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options requires stream: true")
        return self

    def generation(self, max_tokens: int | None, logprobs: int | None, thinking: bool) -> GenerationOptions:
        """The engine's options. Raises InvalidArgumentError for a logit bias with a bad token or value."""
        stop = self.stop or ()
        return GenerationOptions(
            max_tokens=max_tokens,
            temperature=self.temperature or 0.0,
            top_k=self.top_k or 0,
            top_p=1.0 if self.top_p is None else self.top_p,
            min_p=self.min_p or 0.0,
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            seed=None if self.seed is None else self.seed % 2**64,
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            logit_bias=_logit_bias(self.logit_bias or {}),
            logprobs=logprobs,
            ignore_eos=self.ignore_eos,
            thinking=thinking,
        )


class Ignored(Body):
    """Fields of OpenAI's API that have no effect on a local server. They are accepted and ignored."""

    user: str | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    verbosity: str | None = None


class JsonSchemaFormat(Body):
    model_config = ConfigDict(protected_namespaces=())
    name: Annotated[str, Field(max_length=256)] = ""
    description: str | None = None
    schema_: Annotated[JsonObject, Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(Body):
    """The form of the answer. `regex` and `grammar` (Lark's syntax, or GBNF: `root ::= …`) extend OpenAI's
    API."""

    type: FormatType
    json_schema: JsonSchemaFormat | None = None
    pattern: str | None = None
    grammar: str | None = None

    def spec(self) -> Spec | None:
        """The constraint of an answer; None for free text. Raises InvalidArgumentError."""
        schema = None if self.json_schema is None else self.json_schema.schema_
        return constraint_spec(self.type, schema=schema, pattern=self.pattern, grammar=self.grammar)


def thinks(effort: ReasoningEffort | None) -> bool:
    """True if the model reasons before it answers."""
    return effort not in (None, "none", "minimal")


def to_prompt(tokenizer: Tokenizer, text: str | list[int]) -> Prompt:
    """A prompt from a text, or from token ids, which are used as they are."""
    return tokenizer.text_prompt(text) if isinstance(text, str) else Prompt(text)


def texts_of(value: TextOrTokens) -> list[str | list[int]]:
    """A list of texts or token arrays, from a field that holds one of them or several."""
    if isinstance(value, str):
        return [value]
    if isinstance(value[0], int):
        return [[token for token in value if isinstance(token, int)]]
    return [one for one in value if not isinstance(one, int)]


def _logit_bias(bias: dict[str, float]) -> dict[int, float]:
    result = {}
    for token, value in bias.items():
        if not token.isascii() or not token.isdigit() or len(token) > 9:
            raise InvalidArgumentError(
                f'logit_bias: expected token ids, such as "42", as keys, got {quoted(token)}',
                param="logit_bias",
            )
        if not -100 <= value <= 100:
            raise InvalidArgumentError(
                f"logit_bias: expected values in -100 … 100, got {value} for token {token}",
                param="logit_bias",
            )
        result[int(token)] = value
    return result
