"""API keys: who calls, what they may take, and which part of the prefix cache is theirs."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field

from binhdan.runtime.errors import InvalidArgumentError

_SALT_LABEL = b"binhdan prefix cache, version 1"


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What one key may take; None: as much as there is."""

    tokens_per_minute: int | None = None  # of prompts and answers together
    concurrent: int | None = None  # requests at a time


@dataclass(frozen=True, slots=True)
class Key:
    """A key under the name that logs and bills give it."""

    name: str
    secret: str = field(repr=False)
    limits: KeyLimits = KeyLimits()
    admin: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request comes from."""

    name: str  # of the key; "" on a server without keys
    salt: int  # 1 … 2^64 - 1: callers with different salts share nothing in the prefix cache
    limits: KeyLimits
    admin: bool = False  # sees everyone's costs


class Keyring:
    """The keys that the server knows. It keeps digests of them, not the keys.

    Without keys every caller is the same, without a name, and `limits` are theirs.
    """

    def __init__(self, keys: Iterable[Key] = (), limits: KeyLimits | None = None) -> None:
        """Raises InvalidArgumentError for a name or a key that comes twice."""
        self._callers: list[tuple[bytes, Caller]] = []
        for key in keys:
            digest, caller = _digest(key.secret), Caller(key.name, _salt(key.secret), key.limits, key.admin)
            for other_digest, other in self._callers:
                if other.name == caller.name:
                    raise InvalidArgumentError(f"two API keys have the name {key.name}")
                if other_digest == digest:
                    raise InvalidArgumentError(f"{other.name} and {key.name} have the same API key")
            self._callers.append((digest, caller))
        #: Who shows no key, where that is allowed.
        self.anonymous = Caller("", _salt(""), limits or KeyLimits(), admin=not self._callers)

    @property
    def required(self) -> bool:
        """Must a caller show a key?"""
        return bool(self._callers)

    @property
    def names(self) -> list[str]:
        return [caller.name for _, caller in self._callers]

    def caller(self, secret: str | bytes | None) -> Caller | None:
        """Who shows this key; None for a stranger. On a server without keys any key will do, as will none."""
        if not self._callers:
            return self.anonymous
        digest, found = _digest(secret or b""), None
        # All of them, however early one fits: the time must tell nothing about the keys.
        for known, caller in self._callers:
            if hmac.compare_digest(known, digest):
                found = caller
        return found


def _digest(secret: str | bytes) -> bytes:
    return hashlib.sha256(secret.encode() if isinstance(secret, str) else secret).digest()


def _salt(secret: str) -> int:
    """Made from the key itself: the same after a restart, so that a prefix cache on disk is found again, with
    no secret to keep beside it; and other keys' salts cannot be worked out."""
    digest = hmac.digest(secret.encode(), _SALT_LABEL, "sha256")
    return int.from_bytes(digest[:8], "big") or 1
