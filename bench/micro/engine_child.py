"""`python -m binhdan.bench.micro.engine_child CASE ISA`: times this engine in its own process.

It times the forward pass, as llama-bench does: no sampler, no text. An empty ISA selects the fastest table.
"""

from __future__ import annotations

import sys

from binhdan import _native
from binhdan.bench.micro.case import Case, Times
from binhdan.runtime.ffi import library
from binhdan.runtime.options import LoadOptions


def time_case(case: Case, isa: str | None) -> Times:
    core = library()
    model = core.open_model(str(case.model), LoadOptions(threads=case.threads, isa=isa))
    passes = _native.profile(model, case.threads, case.prompt, case.decode, case.depth, case.sequences)
    return Times(
        prompt=passes["prefill"]["ns"] / 1e9 if case.prompt else None,
        decode=passes["decode"]["ns"] / 1e9 if case.decode else None,
        version=core.version(),
        instruction_sets=core.describe_model(model).isa,
    )


if __name__ == "__main__":
    try:
        print(time_case(Case.from_json(sys.argv[1]), sys.argv[2] or None).to_json())
    except Exception as error:
        sys.exit(str(error))
