"""`python -m binhdan.bench.micro.child_binhdan WORKLOAD ISA`: times this engine in a process of its own.

It is the forward pass that is timed, as llama-bench times it: no sampler, no text. An empty ISA is the
fastest.
"""

from __future__ import annotations

import sys

from binhdan import _native
from binhdan.bench.micro.case import Times, Workload
from binhdan.runtime.ffi import library
from binhdan.runtime.options import LoadOptions


def main(workload: Workload, isa: str | None) -> Times:
    core = library()
    model = core.open_model(str(workload.model), LoadOptions(threads=workload.threads, isa=isa))
    passes = _native.profile(
        model, workload.threads, workload.prompt, workload.decode, workload.depth, workload.sequences
    )
    return Times(
        prompt=passes["prompt"]["ns"] / 1e9 if workload.prompt else None,
        decode=passes["decode"]["ns"] / 1e9 if workload.decode else None,
        version=core.version(),
        instruction_sets=core.describe_model(model).isa,
    )


if __name__ == "__main__":
    try:
        print(main(Workload.from_json(sys.argv[1]), sys.argv[2] or None).to_json())
    except Exception as error:
        sys.exit(str(error))
