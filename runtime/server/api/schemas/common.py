"""Fields that several endpoints share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from binhdan.runtime.errors import InvalidArgumentError
from binhdan.runtime.options import GenerationOptions

MOST_STOPS = 16
MOST_STOP_CHARACTERS = 1000

StopText = Annotated[str, Field(min_length=1, max_length=MOST_STOP_CHARACTERS)]


class Body(BaseModel):
    """A request's JSON object."""

    model_config = ConfigDict(extra="forbid", strict=False, allow_inf_nan=False, hide_input_in_errors=True)


class StreamOptions(Body):
    include_usage: bool = False
    include_obfuscation: bool = False  # padding against eavesdroppers, which is not made here


class Sampling(Body):
    """How answers are drawn; greedy by default, as all of binhdan. `top_k` and what follows are ours."""

    temperature: Annotated[float | None, Field(ge=0, le=100)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    presence_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**64)] = None
    stop: StopText | Annotated[list[StopText], Field(max_length=MOST_STOPS)] | None = None
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

    @model_validator(mode="after")
    def _stream_options_need_stream(self) -> Sampling:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is for streams: set stream to true")
        return self

    def generation(self, max_tokens: int | None, logprobs: int | None, thinking: bool) -> GenerationOptions:
        """The options of the engine. Raises InvalidArgumentError for a bias of what is no token."""
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


def _logit_bias(bias: dict[str, float]) -> dict[int, float]:
    result = {}
    for token, value in bias.items():
        if not token.isascii() or not token.isdigit() or len(token) > 9:
            raise InvalidArgumentError("logit_bias: expected numbers of tokens as keys")
        if not -100 <= value <= 100:
            raise InvalidArgumentError(f"logit_bias: expected values in -100 … 100, got {value}")
        result[int(token)] = value
    return result


class Ignored(Body):
    """Fields of OpenAI's API that mean nothing on one's own machine: taken and not looked at."""

    user: str | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    verbosity: str | None = None


ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
JsonObject = dict[str, Any]
