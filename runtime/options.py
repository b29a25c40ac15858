"""Options of models and requests as values: frozen, comparable and picklable."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypedDict, get_args

from binhdan.runtime.errors import InvalidArgumentError

KvType = Literal["f16", "q8_0"]
Pooling = Literal["mean", "cls", "last", "rank"]  # the names are those of binhdan_pooling

MAX_TOKENS = 2048  # of an answer by default: a small model may never end one

_LIMITS = dict.fromkeys(
    ("threads", "context", "max_sequences", "max_waiting", "prefill_chunk", "max_decode_stall_ms"), 2**31
) | {"max_kv_bytes": 2**64, "max_prefix_cache_dir_bytes": 2**64}


_UNITS = {"": 1, "b": 1} | {
    f"{letter}{infix}b": base**power
    for power, letter in enumerate("kmgt", 1)
    for infix, base in (("", 1000), ("i", 1024))
}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([a-z]*)", re.IGNORECASE)


def size_in_bytes(text: str) -> int:
    """The number of bytes in a text such as "2GiB", "500 MB" or "4096". Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"expected bytes, or a size such as 2GiB or 500MB, got {text[:40]!r}")
    return int(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """Options of a loaded model and its engine."""

    threads: int | None = None  # None: the cores that this process may use
    context: int | None = None  # max tokens of a prompt and its answer; None: the model's own limit
    isa: str | None = None  # kernel table to force, such as "avx2"; None: the fastest that runs here
    max_sequences: int | None = None  # generations that run in one batch; None: 8
    max_waiting: int | None = None  # further requests that may wait; None: 256
    prefill_chunk: int | None = None  # max tokens of a prompt in one step; None: 512
    max_decode_stall_ms: int | None = None  # how long prefill may delay a decode step; None: 250
    max_kv_bytes: int | None = None  # max memory for keys and values; None: a quarter of the machine's
    kv_type: KvType = "f16"  # "q8_0" halves the memory for keys and values and is slightly less exact
    prefix_cache: bool = True  # reuse keys and values of prompts with the same start
    prefix_cache_dir: str | None = None  # also store them on disk, for the next start; they reveal the texts
    max_prefix_cache_dir_bytes: int | None = None  # max bytes in that folder; None: 4 GiB
    deterministic: bool = False  # other requests in the batch do not change a bit of an answer
    memory_check: bool = (
        True  # raise OutOfMemoryError, before allocating, if the available memory is too small
    )
    draft: str | None = None  # a smaller model with the same tokens: guesses tokens; answers do not change
    wait_when_busy: bool = False  # ask, chat and complete wait for a place instead of raising BusyError

    def __post_init__(self) -> None:
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            if value is not None and not 0 < value < limit:
                raise InvalidArgumentError(f"{name} must be from 1 to {limit - 1}, not {value}")
        if self.kv_type not in get_args(KvType):
            raise InvalidArgumentError(f"kv_type must be one of {get_args(KvType)}, not {self.kv_type!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingOptions:
    """Options of one embedding."""

    dimensions: int | None = None  # keep the first values, before scaling; None: all
    normalize: bool = True  # scale an embedding to length 1, the score of a reranker to 0 to 1
    pooling: Pooling | None = None  # None: what the model file specifies

    def __post_init__(self) -> None:
        if self.dimensions is not None and not 0 < self.dimensions < 2**31:
            raise InvalidArgumentError(
                f"dimensions must be from 1 to {2**31 - 1}, not {self.dimensions}", param="dimensions"
            )
        if self.pooling is not None and self.pooling not in get_args(Pooling):
            raise InvalidArgumentError(f"pooling must be one of {get_args(Pooling)}, not {self.pooling!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    """Options of one answer: limits and sampling.

    The default is greedy decoding: each token is the most likely one, and the same prompt has the same
    answer. The embedded model works best this way. Larger models often use `temperature=0.7, top_p=0.9`.
    """

    max_tokens: int | None = MAX_TOKENS  # None: as many as the context holds
    temperature: float = 0.0  # 0: greedy
    top_k: int = 0  # 0: off
    top_p: float = 1.0  # 1: off
    min_p: float = 0.0  # 0: off
    repetition_penalty: float = 1.0  # 1: off; counts tokens of prompt and answer
    presence_penalty: float = 0.0  # 0: off; counts tokens of the answer, as in OpenAI's API
    frequency_penalty: float = 0.0  # 0: off; counts tokens of the answer, as in OpenAI's API
    seed: int | None = None  # None: a random seed for each answer
    stop: Sequence[str] = ()  # texts that end the answer; the answer excludes them
    stop_tokens: Sequence[int] = ()  # tokens that end the answer; the answer excludes them
    # The first so many tokens contain no end or stop token, and stop texts have no effect on them.
    min_tokens: int = 0
    include_stop: bool = False  # the answer includes the stop text or stop token that ended it
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # token -> value added to its logit
    logprobs: int | None = None  # n: report each token and the n most likely; None: off
    ignore_eos: bool = False  # continue after an end token
    thinking: bool = False  # let a model that can reason do so before it answers
    # The next two are off with ignore_eos.
    # 16 or more: end an answer whose last tokens, at least so many, repeat one part four times; 0: off.
    loop_guard: int = 128
    # 1 to 15: guess up to so many tokens from earlier text and verify them together, faster where the
    # answer repeats parts of the prompt. The answer does not change. 0: off.
    max_draft_tokens: int = 7

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        if self.max_tokens is not None and not 0 <= self.max_tokens < 2**31:
            raise InvalidArgumentError(f"max_tokens must be from 0 to {2**31 - 1}, not {self.max_tokens}")
        if not 0 <= self.min_tokens < 2**31:
            raise InvalidArgumentError(f"min_tokens must be from 0 to {2**31 - 1}, not {self.min_tokens}")
        if self.max_tokens is not None and self.min_tokens > self.max_tokens > 0:
            raise InvalidArgumentError(
                f"min_tokens must be at most max_tokens, {self.max_tokens}, not {self.min_tokens}",
                param="min_tokens",
            )
        if self.seed is not None and not 0 <= self.seed < 2**64:
            raise InvalidArgumentError(f"seed must be from 0 to 2^64 - 1, not {self.seed}")
        if self.logprobs is not None and not 0 <= self.logprobs <= 20:
            raise InvalidArgumentError(f"logprobs must be from 0 to 20, not {self.logprobs}")
        if not 0 <= self.top_k < 2**31:
            raise InvalidArgumentError(f"top_k must be from 0 (off) to {2**31 - 1}, not {self.top_k}")
        if self.loop_guard != 0 and not 16 <= self.loop_guard <= 2**20:
            raise InvalidArgumentError(f"loop_guard must be 0 (off) or 16 to {2**20}, not {self.loop_guard}")
        if not 0 <= self.max_draft_tokens <= 15:
            raise InvalidArgumentError(
                f"max_draft_tokens must be from 0 (off) to 15, not {self.max_draft_tokens}"
            )


class GenerationChanges(TypedDict, total=False):
    """The fields of GenerationOptions, as keyword arguments."""

    max_tokens: int | None
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    seed: int | None
    stop: Sequence[str]
    stop_tokens: Sequence[int]
    min_tokens: int
    include_stop: bool
    logit_bias: Mapping[int, float]
    logprobs: int | None
    ignore_eos: bool
    thinking: bool
    loop_guard: int
    max_draft_tokens: int


def with_changes(options: GenerationOptions | None, changes: Mapping[str, Any]) -> GenerationOptions:
    """`options`, or the defaults, with the fields in `changes` replaced.

    Raises TypeError for a name that is not a field.
    """
    options = options or GenerationOptions()
    unknown = changes.keys() - {f.name for f in fields(options)}
    if unknown:
        raise TypeError(f"unknown generation options: {', '.join(sorted(unknown))}")
    return replace(options, **changes) if changes else options
