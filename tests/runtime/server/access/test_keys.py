"""runtime/server/access/keys.py: the caller of an API key."""

from __future__ import annotations

import pytest

from binhdan.runtime.errors import InvalidArgumentError
from binhdan.runtime.server.access.keys import Key, KeyLimits, Keyring

LAN, MAI = "sk-lan-0123456789", "sk-mai-0123456789"


def test_callers() -> None:
    ring = Keyring([Key("lan", LAN, KeyLimits(100, 2)), Key("mai", MAI)])
    lan, mai = ring.caller(LAN), ring.caller(MAI.encode())
    assert lan is not None and mai is not None
    assert (lan.name, lan.limits) == ("lan", KeyLimits(100, 2)) and mai.name == "mai"
    for unknown in (None, "", b"", LAN[:-1], LAN + " ", LAN.upper(), b"\xff\xfe"):
        assert ring.caller(unknown) is None
    assert ring.required and ring.names == ["lan", "mai"]


def test_without_keys_there_is_one_caller() -> None:
    ring = Keyring(limits=KeyLimits(5, 1))
    caller = ring.caller(None)
    assert caller is not None and caller is ring.caller("any") and not ring.required
    assert (caller.name, caller.limits) == ("", KeyLimits(5, 1)) and 0 < caller.salt < 2**64


def test_salts_differ_per_key_and_never_change() -> None:
    ring = Keyring([Key("lan", LAN), Key("mai", MAI)])
    salts = [caller.salt for caller in (ring.caller(LAN), ring.caller(MAI), ring.anonymous) if caller]
    assert len(set(salts)) == 3 and all(0 < salt < 2**64 for salt in salts)
    renamed = Keyring([Key("renamed", LAN, KeyLimits(1, 1))]).caller(LAN)
    assert renamed is not None and renamed.salt == salts[0]  # as after a restart
    # Pinned: another value would invalidate every prefix cache on disk.
    assert salts[0] == 9331655866086099611


def test_keys_are_not_stored() -> None:
    key = Key("lan", LAN)
    ring = Keyring([key])
    assert LAN not in repr(key) and LAN not in repr(vars(ring))


def test_duplicates_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="the name lan") as caught:
        Keyring([Key("lan", LAN), Key("lan", MAI)])
    with pytest.raises(InvalidArgumentError, match="lan and mai have the same") as caught:
        Keyring([Key("lan", LAN), Key("mai", LAN)])
    assert LAN not in str(caught.value)
