"""Request fields, response fields and conversions that several endpoints share."""

from __future__ import annotations

import asyncio
import hashlib
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, BeforeValidator, Field, model_validator

from binhdan.runtime.errors import InvalidArgumentError
from binhdan.runtime.ffi import library
from binhdan.runtime.options import GenerationOptions
from binhdan.runtime.prompting.tokenizer import Prompt, Tokenizer
from binhdan.runtime.server.access.keys import Caller
from binhdan.runtime.server.api.body import Body, RequestBody
from binhdan.runtime.server.errors import ApiError, quoted
from binhdan.runtime.server.http.fields import ignore

MAX_STOPS = 16
MAX_STOP_CHARACTERS = 1000
MAX_TEXTS = 2048  # in one request

MAX_STOP_TOKENS = 1024

# Fields of Sampling that only have an effect elsewhere.
_WITHOUT_EFFECT = ("skip_special_tokens", "spaces_between_special_tokens")


def off(*values: Any) -> BeforeValidator:
    """A validator for a field in which clients write one of `values` for "not set"."""
    return BeforeValidator(lambda value: None if value in values and not isinstance(value, bool) else value)


def _no_stop(stop: Any) -> Any:
    return None if stop == "" else stop


JsonObject = dict[str, Any]
ModelName = Annotated[str | None, Field(max_length=256)]  # None: the server's default model
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
StopText = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]
Texts = str | Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS)]
# A value of false stands for the lowest one.
Bias = float | bool
# OpenAI's object, or llama.cpp's pairs. A key is the id of a token, or a text: then all its tokens.
LogitBias = (
    Annotated[dict[Annotated[str, Field(max_length=MAX_STOP_CHARACTERS)], Bias], Field(max_length=1024)]
    | Annotated[
        list[tuple[int | Annotated[str, Field(max_length=MAX_STOP_CHARACTERS)], Bias]], Field(max_length=1024)
    ]
)
TokenCount = Annotated[int | None, Field(ge=1, lt=2**31), off(-1)]  # None or -1: as many as the context holds

MAX_TOKENS_NAMES = AliasChoices("max_tokens", "n_predict")  # the second is llama.cpp's

FINGERPRINT = f"binhdan-{library().version()}"

# binhdan's finish reason -> OpenAI's.
FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "context": "length",
    "cancelled": "length",
    "repetition": "length",  # the answer is not complete
    "invalid": "content_filter",  # clients must not take it for an answer of the form that they requested
}


# How many of the most likely tokens in the place of each token of the prompt are in the response.
PromptLogprobs = Annotated[int | None, Field(ge=0, le=20)]


class StreamOptions(Body):
    include_usage: bool = False
    include_obfuscation: bool = False  # accepted and ignored: this server adds no padding


class Sampling(RequestBody):
    """Sampling parameters. Without them decoding is greedy. `top_k` and the fields after it extend OpenAI's
    API; their names are those of vLLM and llama.cpp."""

    temperature: Annotated[float | None, Field(ge=0, le=100)] = None
    top_p: Annotated[float | None, Field(ge=0, le=1)] = None  # 0: only the most likely token
    presence_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**64), off(-1)] = None
    stop: Annotated[
        StopText | Annotated[list[StopText], Field(max_length=MAX_STOPS)] | None, BeforeValidator(_no_stop)
    ] = None
    logit_bias: LogitBias | None = None
    n: Annotated[int | None, Field(ge=1, le=128)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    top_k: Annotated[int | None, Field(ge=0, lt=2**31), off(-1)] = None
    min_p: Annotated[float | None, Field(ge=0, le=1)] = None
    repetition_penalty: Annotated[
        float | None,
        Field(gt=0, le=100, validation_alias=AliasChoices("repetition_penalty", "repeat_penalty")),
    ] = None
    ignore_eos: bool = False
    cache_prompt: bool = True
    cache_salt: Annotated[str | None, Field(max_length=1024)] = None  # of the prefix cache
    # Keep the last ones; -1: as many as the context holds beside the answer.
    truncate_prompt_tokens: Annotated[int | None, Field(ge=-1, lt=2**31)] = None
    min_tokens: Annotated[int, Field(ge=0, lt=2**31)] = 0
    stop_token_ids: Annotated[list[int], Field(max_length=MAX_STOP_TOKENS)] = Field(default_factory=list)
    include_stop_str_in_output: bool = False
    timings_per_token: bool = False  # llama.cpp's: in each chunk of a stream, not only in the last
    # Their neutral values; others are reported as ignored.
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True

    @property
    def include_usage(self) -> bool:
        """True if the stream ends with a chunk that holds the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @model_validator(mode="after")
    def _stream_options_need_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options requires stream: true")
        return self

    @model_validator(mode="after")
    def _report_without_effect(self) -> Self:
        for name in _WITHOUT_EFFECT:
            if getattr(self, name) != type(self).model_fields[name].default:
                ignore(name)
        return self

    def generation(
        self, tokenizer: Tokenizer, max_tokens: int | None, logprobs: int | None, thinking: bool = False
    ) -> GenerationOptions:
        """The engine's options. Raises InvalidArgumentError for a logit bias with a bad token or value."""
        stop = self.stop or ()
        stops = (stop,) if isinstance(stop, str) else tuple(stop)
        return GenerationOptions(
            max_tokens=max_tokens,
            temperature=self.temperature or 0.0,
            top_k=self.top_k or 0,
            top_p=top_p(self.top_p),
            min_p=self.min_p or 0.0,
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            seed=None if self.seed is None else self.seed % 2**64,
            stop=tuple(map(nfc, stops)),
            stop_tokens=tuple(self.stop_token_ids),
            min_tokens=self.min_tokens,
            include_stop=self.include_stop_str_in_output,
            logit_bias=_logit_bias(self.logit_bias or {}, tokenizer),
            logprobs=logprobs,
            ignore_eos=self.ignore_eos,
            thinking=thinking,
        )

    def salt(self, caller: Caller) -> int:
        """The salt of the prefix cache: requests with another `cache_salt` share nothing."""
        if not self.cache_salt:
            return caller.salt
        digest = hashlib.blake2b(self.cache_salt.encode("utf-8", "replace"), digest_size=8).digest()
        return caller.salt ^ int.from_bytes(digest)

    def truncated(self, prompt: Prompt, context: int, max_tokens: int | None) -> Prompt:
        """The prompt with only its last tokens, if `truncate_prompt_tokens` says so. `max_tokens`: of the
        answer."""
        limit = self.truncate_prompt_tokens
        if limit == -1:
            limit = max(1, context - (max_tokens or 1))
        if not limit or len(prompt.tokens) <= limit:
            return prompt
        return replace(prompt, tokens=prompt.tokens[-limit:])


class Ignored(RequestBody):
    """Fields of OpenAI's API that have no effect on a local server. They are accepted and ignored."""

    user: str | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    verbosity: str | None = None


def thinks(effort: ReasoningEffort | None) -> bool:
    """True if the model reasons before it answers."""
    return effort not in (None, "none", "minimal")


async def each_text(input: str | list[str], work: Callable[[str], JsonObject]) -> JsonObject:
    """The answer of an endpoint for texts: `work` of each text, in order, in a thread. Its
    InvalidArgumentError is the client's error."""
    texts = [input] if isinstance(input, str) else input

    def all_of_them() -> list[JsonObject]:
        return [{"index": index, **work(text)} for index, text in enumerate(texts)]

    try:
        return {"object": "list", "data": await asyncio.to_thread(all_of_them)}
    except InvalidArgumentError as error:
        raise ApiError(400, str(error), param="input") from error


def nfc(text: str) -> str:
    """A stop text in the form in which models write it, which is that of the texts they were trained on."""
    return unicodedata.normalize("NFC", text)


def top_p(value: float | None) -> float:
    """The engine's top_p, which is larger than 0: a small one keeps only the most likely token."""
    return 1.0 if value is None else max(value, 1e-6)


def _logit_bias(bias: LogitBias, tokenizer: Tokenizer) -> dict[int, float]:
    result: dict[int, float] = {}
    for key, value in bias.items() if isinstance(bias, dict) else bias:
        if value is True or not -100 <= value <= 100:
            raise InvalidArgumentError(
                f"logit_bias: expected values in -100 … 100, or false, got {value} for {quoted(str(key))}",
                param="logit_bias",
            )
        for token in _tokens(key, tokenizer):
            result[token] = -100.0 if value is False else value
    return result


def _tokens(key: int | str, tokenizer: Tokenizer) -> list[int]:
    """The tokens that a key of `logit_bias` names."""
    text = str(key)
    if not text.isascii() or not text.isdigit():
        if isinstance(key, str) and key:
            return tokenizer.encode(key)
    elif len(text) <= 9:
        return [int(text)]
    raise InvalidArgumentError(
        f'logit_bias: expected token ids, such as "42", or texts, got {quoted(text)}', param="logit_bias"
    )
