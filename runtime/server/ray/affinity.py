"""Which replicas are likely to have the start of a prompt in their prefix caches.

Requests of one conversation go to one replica, and so do conversations with the same system prompt, as long
as that system prompt is a small part of the requests. The more requests have it, the more replicas take them:
a system prompt that all requests share is soon in every cache.

The choice is rendezvous hashing: each router makes it from the names of the replicas alone, and a replica
that comes or goes moves only the conversations that it has.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_MAX_SYSTEMS = 4096  # system prompts whose shares are counted
_HALF = 1024  # requests after which all counts are halved
_HEADROOM = 1.5  # replicas per share of the requests
_SYSTEM_CHARACTERS = 512  # of a text that is one prompt
_CONVERSATION_CHARACTERS = 2048


@dataclass(frozen=True, slots=True)
class Affinity:
    """Digests of the parts of a request that its prompt begins with."""

    system: str  # the model, the caller and the system prompt
    conversation: str  # in addition the first message


def affinity_of(caller: str, body: Any) -> Affinity | None:
    """The affinity of a request with this JSON body; None if its prompt is in no known field.

    `caller`: callers share nothing in the prefix cache.
    """
    if not isinstance(body, dict):
        return None
    first: Any = None
    system = [caller, body.get("model"), body.get("system"), body.get("instructions"), body.get("tools")]
    messages = body.get("messages") or body.get("input") or body.get("prompt")
    if isinstance(messages, list) and messages and isinstance(messages[0], dict):
        roles = [message.get("role") if isinstance(message, dict) else None for message in messages]
        start = next((i for i, role in enumerate(roles) if role not in ("system", "developer")), len(roles))
        system.append(messages[:start])
        first = messages[start : start + 1]
    elif isinstance(messages, str):
        system.append(messages[:_SYSTEM_CHARACTERS])
        first = messages[:_CONVERSATION_CHARACTERS]
    elif isinstance(messages, list) and messages:  # texts, or tokens
        first = messages[:_CONVERSATION_CHARACTERS]
    else:
        return None
    named = body.get("prompt_cache_key")  # OpenAI's name for a conversation
    return Affinity(_digest(system), _digest([system, named if isinstance(named, str) else first]))


class Ranking:
    """Ranks replicas for requests. Use it from one thread."""

    def __init__(self) -> None:
        self._counts: dict[str, float] = {}  # recent requests by system prompt
        self._total = 0.0

    def rank(self, affinity: Affinity, replicas: Sequence[str]) -> list[str]:
        """The replicas, best first. Counts the request."""
        order = sorted(replicas, key=lambda replica: _score(affinity.system, replica), reverse=True)
        share = self._count(affinity.system)
        size = max(1, min(len(order), math.ceil(share * len(order) * _HEADROOM)))
        group = sorted(order[:size], key=lambda replica: _score(affinity.conversation, replica), reverse=True)
        return group + order[size:]

    def _count(self, system: str) -> float:
        """Counts a request and returns the share of its system prompt in recent requests."""
        if len(self._counts) >= _MAX_SYSTEMS and system not in self._counts:
            rarest = min(self._counts, key=lambda one: self._counts[one])
            self._total -= self._counts.pop(rarest)
        self._counts[system] = self._counts.get(system, 0.0) + 1
        self._total += 1
        if self._total >= _HALF:
            self._counts = {one: count / 2 for one, count in self._counts.items() if count > 1}
            self._total = sum(self._counts.values())
        return self._counts.get(system, 0.0) / max(self._total, 1.0)


def _digest(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _score(digest: str, replica: str) -> bytes:
    return hashlib.blake2b(f"{digest} {replica}".encode(), digest_size=8).digest()
