"""`python -m binhdan.bench.micro.child_llama_cpp WORKLOAD`: times llama.cpp through llama-cpp-python.

It does what llama.cpp's own llama-bench and llama-batched-bench do, with their defaults: tokens at random,
batches of 2,048 computed 512 at a time, logits of the last token, keys and values in float16.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from typing import Any

import llama_cpp

from binhdan.bench.micro.case import Times, Workload

_BATCH = 2048


class Engine:
    """A model and a context of llama.cpp with room for `workload`."""

    def __init__(self, workload: Workload) -> None:
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(str(workload.model).encode(), params)
        if not self.model:
            raise ValueError(f"llama.cpp cannot load {workload.model}")
        options = llama_cpp.llama_context_default_params()
        per_sequence = workload.depth + max(workload.prompt, workload.decode) + 1
        options.n_ctx = -(-per_sequence // 256) * 256 * workload.sequences
        options.n_batch, options.n_ubatch = _BATCH, 512
        options.n_threads = options.n_threads_batch = workload.threads
        options.n_seq_max = workload.sequences
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        if not self.context:
            raise ValueError(f"llama.cpp has no memory for a context of {options.n_ctx} tokens")
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(max(_BATCH, workload.sequences), 0, 1)
        self.random = random.Random(0)

    def clear(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def prompt(self, sequence: int, position: int, tokens: int) -> None:
        """Appends `tokens` to a sequence of `position` tokens."""
        for begin in range(position, position + tokens, _BATCH):
            end = min(begin + _BATCH, position + tokens)
            self._decode([(sequence, at, at + 1 == position + tokens) for at in range(begin, end)])

    def step(self, sequences: int, position: int) -> None:
        """Appends a token to each of `sequences` sequences of `position` tokens."""
        self._decode([(sequence, position, True) for sequence in range(sequences)])

    def logits(self, tokens: Sequence[int]) -> Any:
        """Of every position of a text, (n, vocabulary) in numpy's float32."""
        import numpy as np

        self.clear()
        self._decode([(0, at, True) for at in range(len(tokens))], tokens)
        rows = (llama_cpp.llama_get_logits_ith(self.context, i) for i in range(len(tokens)))
        return np.array([np.ctypeslib.as_array(row, (self.vocabulary,)) for row in rows])

    def _decode(self, rows: Sequence[tuple[int, int, bool]], tokens: Sequence[int] | None = None) -> None:
        """Computes rows of (sequence, position, logits wanted), of `tokens` or any."""
        batch: Any = self.batch
        batch.n_tokens = len(rows)
        for i, (sequence, position, logits) in enumerate(rows):
            batch.token[i] = tokens[i] if tokens else self.random.randrange(self.vocabulary)
            batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = position, 1, sequence
            batch.logits[i] = logits
        if status := llama_cpp.llama_decode(self.context, batch):
            raise ValueError(f"llama_decode failed with status {status}")
        llama_cpp.llama_synchronize(self.context)


def main(workload: Workload) -> Times:
    engine = Engine(workload)
    return Times(
        prompt=_time_prompt(engine, workload) if workload.prompt else None,
        decode=_time_decode(engine, workload) if workload.decode else None,
        version=llama_cpp.__version__,
        instruction_sets=_instruction_sets(),
    )


def _time_prompt(engine: Engine, workload: Workload) -> float:
    engine.prompt(0, 0, workload.prompt)
    engine.clear()
    engine.prompt(0, 0, workload.depth)
    start = time.perf_counter()
    engine.prompt(0, workload.depth, workload.prompt)
    return time.perf_counter() - start


def _time_decode(engine: Engine, workload: Workload) -> float:
    engine.clear()
    engine.step(workload.sequences, 0)
    engine.clear()
    for sequence in range(workload.sequences):
        engine.prompt(sequence, 0, workload.depth)
    start = time.perf_counter()
    for i in range(workload.decode):
        engine.step(workload.sequences, workload.depth + i)
    return time.perf_counter() - start


def _instruction_sets() -> str:
    """Of "CPU : SSE3 = 1 | AVX2 = 1 | …" the names that are on."""
    fields = llama_cpp.llama_print_system_info().decode().replace(":", "|").split("|")
    return " ".join(name.strip() for name, _, on in (f.partition("=") for f in fields) if on.strip() == "1")


if __name__ == "__main__":
    try:
        print(main(Workload.from_json(sys.argv[1])).to_json())
    except Exception as error:
        sys.exit(str(error))
