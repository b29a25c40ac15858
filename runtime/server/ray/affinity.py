"""Which replicas are likely to have the start of a prompt in their prefix caches.

Requests of one conversation go to one replica, and so do conversations with the same system prompt, as long
as that system prompt is a small part of the requests. The more requests have it, the more replicas take them:
a system prompt that all requests share is soon in every cache.

The choice is rendezvous hashing: each router makes it from the names of the replicas alone, and a replica
that comes or goes moves only the conversations that it has. A new conversation has at most its system prompt
in a cache, so it goes to another replica with that prompt if the one of the hash is busier; the router
remembers it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MAX_CONVERSATIONS = 65_536  # whose replica a router remembers
# Of a new conversation: the replica of the hash may have so many more requests than the least busy one.
_FIRST_TURN_IMBALANCE = 1
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
    first_turn: bool = True  # nothing follows the first message


def affinity_of(caller: str, body: Any) -> Affinity | None:
    """The affinity of a request with this JSON body; None if its prompt is in no known field.

    `caller`: callers share nothing in the prefix cache.
    """
    if not isinstance(body, dict):
        return None
    first: Any = None
    later: Any = None
    system = [caller, body.get("model"), body.get("system"), body.get("instructions"), body.get("tools")]
    messages = body.get("messages") or body.get("input") or body.get("prompt")
    if isinstance(messages, list) and messages and isinstance(messages[0], dict):
        roles = [message.get("role") if isinstance(message, dict) else None for message in messages]
        start = next((i for i, role in enumerate(roles) if role not in ("system", "developer")), len(roles))
        system.append(messages[:start])
        first, later = messages[start : start + 1], messages[start + 1 :]
    elif isinstance(messages, str):
        system.append(messages[:_SYSTEM_CHARACTERS])
        first = messages[:_CONVERSATION_CHARACTERS]
    elif isinstance(messages, list) and messages:  # texts, or tokens
        first = messages[:_CONVERSATION_CHARACTERS]
    else:
        return None
    named = body.get("prompt_cache_key")  # OpenAI's name for a conversation
    conversation = _digest([system, named if isinstance(named, str) else first])
    return Affinity(_digest(system), conversation, first_turn=not later)


class Placement:
    """Chooses replicas for requests. Use it from one thread.

    `imbalance`: a replica with so many more requests than the least busy one is passed over.
    """

    def __init__(self, imbalance: int) -> None:
        self._imbalance = imbalance
        self._ranking = Ranking()
        self._replicas: OrderedDict[str, str] = OrderedDict()  # by conversation, the last used one at the end

    def choose(self, affinity: Affinity, requests: Mapping[str, int]) -> str:
        """The replica for a request. `requests`: those of each replica that run or wait."""
        group, others = self._ranking.rank(affinity, list(requests))
        limit = min(requests.values()) + self._imbalance
        allowed = [name for name in group + others if requests[name] <= limit]
        known = self._replicas.pop(affinity.conversation, None)
        if affinity.first_turn:
            same = [name for name in group if name in allowed] or allowed
            most = min(requests[name] for name in same) + _FIRST_TURN_IMBALANCE
            chosen = next(name for name in same if requests[name] <= most)
        else:
            chosen = known if known in allowed else allowed[0]
        self._replicas[affinity.conversation] = chosen
        if len(self._replicas) > _MAX_CONVERSATIONS:
            self._replicas.popitem(last=False)
        return chosen


class Ranking:
    """Ranks replicas for requests. Use it from one thread."""

    def __init__(self) -> None:
        self._counts: dict[str, float] = {}  # recent requests by system prompt
        self._total = 0.0

    def rank(self, affinity: Affinity, replicas: Sequence[str]) -> tuple[list[str], list[str]]:
        """The replicas for its system prompt, and the others; best first. Counts the request."""
        order = sorted(replicas, key=lambda replica: _score(affinity.system, replica), reverse=True)
        share = self._count(affinity.system)
        size = max(1, min(len(order), math.ceil(share * len(order) * _HEADROOM)))
        group = sorted(order[:size], key=lambda replica: _score(affinity.conversation, replica), reverse=True)
        return group, order[size:]

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
