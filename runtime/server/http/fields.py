"""Fields of a request that this server does not have: refused, reported in a response header, or ignored.

Clients of other servers send fields that have no meaning here, such as `mirostat`. A misspelt field of this
server is refused under every policy, because its value would otherwise have no effect.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from binhdan.runtime.server.accounting import logs
from binhdan.runtime.server.errors import ApiError

Policy = Literal["refuse", "warn", "ignore"]

HEADER = "x-binhdan-ignored-fields"

_MAX_NAMES = 32  # in the header
_MAX_CHARACTERS = 64  # of a name
_SAFE = "_.[]-"  # besides letters and digits
# Fields of OpenAI, vLLM, llama.cpp and others whose names resemble fields of this server.
_NAMES = """
best_of echo functions function_call include input instructions max_length max_tool_calls messages min_length
min_tokens mode n_discard n_indent n_keep n_predict n_probs priority prompt prompt_logprobs query schema
suffix t_max_predict_ms task tasks tfs_z title top_a top_n top_n_sigma typ_p typical typical_p use_cache users
"""
_OF_OTHERS = frozenset(_NAMES.split())
# Their values that mean "off", which clients send with every request. Such a field is not reported.
_OFF: dict[str, tuple[Any, ...]] = {
    "adaptive_target": (-1,),
    "add_special_tokens": (True,),
    "allowed_token_ids": ([],),
    "bad_words": ([],),
    "detokenize": (True,),
    "documents": ([],),
    "dry_multiplier": (0,),
    "dynatemp_range": (0,),
    "early_stopping": (False,),
    "include_reasoning": (True,),
    "length_penalty": (1,),
    "lora": ([],),
    "mirostat": (0,),
    "n_keep": (0,),
    "priority": (0,),
    "return_progress": (False,),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "tfs_z": (1,),
    "top_n_sigma": (-1,),
    "typical_p": (0, 1),
    "use_beam_search": (False,),
    "xtc_probability": (0,),
}


@dataclass(slots=True)
class FieldReport:
    """The fields of one request that were ignored."""

    policy: Policy
    names: list[str] = field(default_factory=list)

    def header(self) -> str:
        """The value of HEADER; "" if there is nothing to report."""
        return self.listed() if self.policy == "warn" else ""

    def listed(self) -> str:
        """The names with commas, percent-encoded, because they are client input."""
        names = [quote(name[:_MAX_CHARACTERS], safe=_SAFE) for name in self.names[:_MAX_NAMES]]
        return ", ".join(names) + (", ..." if len(self.names) > _MAX_NAMES else "")


# Set by the gateway for each request.
report: ContextVar[FieldReport | None] = ContextVar("field_report", default=None)


def ignore(name: str, why: str = "") -> None:
    """Reports the field `name`, a path such as "messages[0].audio", as ignored. Raises ApiError, 400, if the
    policy is "refuse". `why`: what this server does instead."""
    current = report.get()
    if current is None or name in current.names:
        return
    if current.policy == "refuse":
        raise ApiError(
            400, f"{shown(name)}: {why or 'this server has no such field'}; remove it", param=name[:300]
        )
    current.names.append(name)


def log_report(current: FieldReport) -> None:
    """Logs the ignored fields of a request, at level debug."""
    if current.names:
        logs.log.debug("fields ignored", extra={"fields": current.listed()})


def check_names(names: Iterable[str], known: Collection[str], place: str = "") -> None:
    """Reports those of `names` that are not `known`. Raises ApiError for one that is misspelt.

    `place`: the path of the object that has them, with a dot at its end.
    """
    for name in names:
        if name in known:
            continue
        meant = misspelt(name, known)
        if meant is not None:
            raise ApiError(
                400,
                f"{place}{shown(name)}: unknown field; the nearest field is {meant}: correct or remove it",
                param=(place + name)[:300],
                code="unknown_field",
            )
        ignore(place + name)


def is_off(name: str, value: Any) -> bool:
    """True if this value of a field of other servers has no effect there either."""
    return any(
        value == off and isinstance(value, bool) == isinstance(off, bool) for off in _OFF.get(name, ())
    )


def misspelt(name: str, known: Collection[str]) -> str | None:
    """The field that `name` misspells; None if it resembles none."""
    if len(name) < 3 or len(name) > _MAX_CHARACTERS or name in _OF_OTHERS:
        return None
    plain = _plain(name)
    for one in sorted(known):
        if _plain(one) == plain:
            return one
    limit = 1 if len(name) < 8 else 2
    near = [
        (distance, one)
        for one in sorted(known)
        if len(one) > 3 and (distance := _distance(name, one)) <= limit
    ]
    return min(near)[1] if near else None


def shown(name: str) -> str:
    """A field name for a message."""
    return name if len(name) <= _MAX_CHARACTERS else name[: _MAX_CHARACTERS - 1] + "…"


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _distance(a: str, b: str) -> int:
    """Edit distance with transpositions of neighbours (optimal string alignment); 3 for 3 and more."""
    if abs(len(a) - len(b)) > 2:
        return 3
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            best = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                best = min(best, before[j - 2] + 1)
            row.append(best)
        before, last = last, row
    return min(last[-1], 3)
