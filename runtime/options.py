"""Options as plain values: frozen, comparable and picklable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypedDict, get_args

from binhdan.runtime.errors import InvalidArgumentError

KvType = Literal["f16", "q8_0"]

_LIMITS = dict.fromkeys(
    ("threads", "context", "max_sequences", "max_waiting", "prefill_chunk", "max_decode_stall_ms"), 2**31
) | {"max_kv_bytes": 2**64, "max_prefix_cache_dir_bytes": 2**64}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How a model is loaded and run."""

    threads: int | None = None  # None: the cores that this process may use
    context: int | None = None  # most tokens of one conversation; None: what the model was made for
    isa: str | None = None  # kernel table to force, such as "avx2"; None: the best that runs here
    max_sequences: int | None = None  # requests that run together; None: 8
    max_waiting: int | None = None  # requests that may wait besides; None: 256
    prefill_chunk: int | None = None  # prompt tokens in one step; None: 512
    max_decode_stall_ms: int | None = None  # what prompts may add to a step in which others answer; None: 250
    max_kv_bytes: int | None = None  # most memory for keys and values; None: a quarter of the machine's
    kv_type: KvType = "f16"  # "q8_0": half the memory for keys and values, slightly less exact
    prefix_cache: bool = True  # keep keys and values for prompts that begin like earlier ones
    prefix_cache_dir: str | None = None  # also on disk, over a restart: they tell the texts; None: not
    max_prefix_cache_dir_bytes: int | None = None  # most bytes there; None: 4 GiB
    deterministic: bool = False  # answers do not depend, bit for bit, on what runs beside them

    def __post_init__(self) -> None:
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            if value is not None and not 0 < value < limit:
                raise InvalidArgumentError(f"{name} must be a positive number below {limit}, not {value}")
        if self.kv_type not in get_args(KvType):
            raise InvalidArgumentError(f"kv_type must be one of {get_args(KvType)}, not {self.kv_type!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    """How an answer is made.

    The default is greedy decoding, the most likely token each time: it is what the embedded model does best,
    and it gives the same answer every time. `temperature=0.7, top_p=0.9` or so makes bigger models livelier.
    """

    max_tokens: int | None = None  # None: as many as the context holds
    temperature: float = 0.0  # 0: greedy
    top_k: int = 0  # 0: off
    top_p: float = 1.0  # 1: off
    min_p: float = 0.0  # 0: off
    repetition_penalty: float = 1.0  # 1: off; over prompt and answer
    presence_penalty: float = 0.0  # 0: off; over the answer, as OpenAI defines it
    frequency_penalty: float = 0.0  # 0: off; over the answer, as OpenAI defines it
    seed: int | None = None  # None: another one each time
    stop: Sequence[str] = ()  # the answer ends before any of these
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # token -> added to its logit
    logprobs: int | None = None  # None: no log probabilities; n: the token's own and the n likeliest
    ignore_eos: bool = False  # go on after an end token
    thinking: bool = False  # for models that can reason before they answer

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        if self.max_tokens is not None and not 0 < self.max_tokens < 2**31:
            raise InvalidArgumentError(f"max_tokens must be a positive number, not {self.max_tokens}")
        if self.seed is not None and not 0 <= self.seed < 2**64:
            raise InvalidArgumentError(f"seed must be in 0 … 2^64 - 1, not {self.seed}")
        if self.logprobs is not None and not 0 <= self.logprobs <= 20:
            raise InvalidArgumentError(f"logprobs must be in 0 … 20, not {self.logprobs}")
        if not 0 <= self.top_k < 2**31:
            raise InvalidArgumentError(f"top_k must not be negative, not {self.top_k}")


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
    logit_bias: Mapping[int, float]
    logprobs: int | None
    ignore_eos: bool
    thinking: bool


def with_changes(options: GenerationOptions | None, changes: Mapping[str, Any]) -> GenerationOptions:
    """`options`, or the defaults, with the fields in `changes` replaced. TypeError for a field there is
    not."""
    options = options or GenerationOptions()
    unknown = changes.keys() - {f.name for f in fields(options)}
    if unknown:
        raise TypeError(f"no such generation option: {', '.join(sorted(unknown))}")
    return replace(options, **changes) if changes else options
