"""Every client of matrix.py that is installed works with the server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clients.matrix import CHECKS, Check, Target
from serving import serving


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with serving(models={"tiny": None}, ollama=True) as url:
        yield Target(url, "tiny")


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=[f"{one.package}: {one.what}" for one in CHECKS])
def test_a_client(target: Target, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    if not check.installed():
        how = f"{check.program} on the PATH" if check.program else "pip install 'binhdan[clients]'"
        pytest.skip(f"no {check.package}: {how}")
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # no download of prices
    check.run(target)
