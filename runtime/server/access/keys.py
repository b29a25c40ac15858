"""API keys: the caller of a request, its limits and its part of the prefix cache."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field

from binhdan.runtime.errors import InvalidArgumentError

_SALT_LABEL = b"binhdan prefix cache, version 1"


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """Limits of one API key. None: no limit."""

    tokens_per_minute: int | None = None  # of prompts and answers together
    max_concurrent: int | None = None  # running requests


@dataclass(frozen=True, slots=True)
class Key:
    """An API key. `name` is its name in logs and bills."""

    name: str
    secret: str = field(repr=False)
    limits: KeyLimits = KeyLimits()
    admin: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request: the properties that the server uses."""

    name: str  # of the API key; "" on a server without keys
    salt: int  # 1 … 2^64 - 1; callers with different salts share nothing in the prefix cache
    limits: KeyLimits
    admin: bool = False  # may see the costs of all callers


class Keyring:
    """The API keys of a server. It stores digests, not the keys.

    Without keys all requests have the same caller, with the name "" and with `limits`.
    """

    def __init__(self, keys: Iterable[Key] = (), limits: KeyLimits | None = None) -> None:
        """Raises InvalidArgumentError for a name or a key that occurs twice."""
        self._callers: list[tuple[bytes, Caller]] = []
        for key in keys:
            digest, caller = _digest(key.secret), Caller(key.name, _salt(key.secret), key.limits, key.admin)
            for other_digest, other in self._callers:
                if other.name == caller.name:
                    raise InvalidArgumentError(f"two API keys have the name {key.name}; rename one of them")
                if other_digest == digest:
                    raise InvalidArgumentError(
                        f"{other.name} and {key.name} have the same API key; change one of them"
                    )
            self._callers.append((digest, caller))
        #: The caller of requests without a key, where those are allowed.
        self.anonymous = Caller("", _salt(""), limits or KeyLimits(), admin=not self._callers)

    def replace(self, other: Keyring) -> None:
        """Takes the keys and limits of `other`. Running requests keep their callers."""
        self._callers, self.anonymous = other._callers, other.anonymous

    @property
    def required(self) -> bool:
        """True if requests need an API key."""
        return bool(self._callers)

    @property
    def names(self) -> list[str]:
        return [caller.name for _, caller in self._callers]

    def caller(self, secret: str | bytes | None) -> Caller | None:
        """The caller with this API key; None for an unknown or missing key. A server without keys accepts any
        key, and none."""
        if not self._callers:
            return self.anonymous
        digest, found = _digest(secret or b""), None
        # Compares with all keys, even after a match: the time must reveal nothing about the keys.
        for known, caller in self._callers:
            if hmac.compare_digest(known, digest):
                found = caller
        return found


def _digest(secret: str | bytes) -> bytes:
    return hashlib.sha256(secret.encode() if isinstance(secret, str) else secret).digest()


def _salt(secret: str) -> int:
    """The salt of an API key, derived from the key.

    It is the same after a restart, so that a prefix cache on disk remains valid without another secret. It
    cannot be computed without the key.
    """
    digest = hmac.digest(secret.encode(), _SALT_LABEL, "sha256")
    return int.from_bytes(digest[:8], "big") or 1
