"""bench/suite/forward_passes.py: depths, and passes of the embedded model."""

from __future__ import annotations

from typing import Any

import binhdan
from binhdan.bench.suite import forward_passes
from binhdan.runtime.client.model import embedded_model


def test_depths_end_at_the_context() -> None:
    assert list(forward_passes.depths(0)) == [0]
    assert list(forward_passes.depths(1791)) == [0, 128, 256, 512, 1024, 1791]
    assert list(forward_passes.depths(300)) == [0, 128, 256]


def test_forward_passes_of_the_embedded_model() -> None:
    def measure() -> Any:
        return forward_passes.measure(embedded_model(), threads=1, isa=None, gb_per_s=10.0, seconds=0.1)

    passes, by_depth = measure()
    names = [one.name for one in passes]
    assert names == ["decode, 1 together", "decode, 4 together", "decode, 16 together", "prompt of 256"]
    assert all(one.seconds > 0 and one.gigabytes > 0 and one.giga_operations > 0 for one in passes)
    # Each weight is multiplied once for a token.
    with binhdan.load(threads=1) as model:
        assert passes[0].giga_operations > 2 * 0.9 * model.info.bytes_per_token / 1.1e9
    assert by_depth[0].depth == 0 and by_depth[0].decode_tokens_per_s > 0

    def prompts_are_faster(of: Any) -> bool:
        return bool(of.prompt_tokens_per_s > of.decode_tokens_per_s)

    # A busy machine may slow one of the two down.
    assert prompts_are_faster(by_depth[0]) or any(prompts_are_faster(measure()[1][0]) for _ in range(4))
