"""llama.cpp through the installed llama-cpp-python: the only module that imports it.

ForwardPasses times forward passes for `binhdan bench peers`; Generator answers chats for `binhdan bench ab`;
Embedder embeds texts for `binhdan bench embeddings`.

`python -m binhdan.bench.micro.llama_cpp CASE` times one case in its own process. It works as llama.cpp's own
llama-bench and llama-batched-bench do, with their defaults: random tokens, batches of 2,048 that are computed
512 at a time, logits of the last token, keys and values in float16.
"""

from __future__ import annotations

import importlib
import importlib.util
import random
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from binhdan.bench.micro.case import Case, Times
from binhdan.runtime.errors import BinhdanError, UnsupportedError

INSTALL = "pip install llama-cpp-python"
_BATCH = 2048


def installed() -> bool:
    return importlib.util.find_spec("llama_cpp") is not None


def module() -> Any:
    """The package llama_cpp. Raises UnsupportedError when it is not installed."""
    if not installed():
        raise UnsupportedError(f"llama-cpp-python is not installed: {INSTALL}")
    return importlib.import_module("llama_cpp")


class ForwardPasses:
    """A model and a context for `case`. Raises BinhdanError for a file that llama.cpp cannot load."""

    def __init__(self, case: Case) -> None:
        self._lib = lib = module()
        lib.llama_backend_init()
        params = lib.llama_model_default_params()
        params.n_gpu_layers = 0
        self._model = lib.llama_model_load_from_file(str(case.model).encode(), params)
        if not self._model:
            raise BinhdanError(f"llama.cpp cannot load {case.model}")
        options = lib.llama_context_default_params()
        per_sequence = case.depth + max(case.prompt, case.decode) + 1
        options.n_ctx = -(-per_sequence // 256) * 256 * case.sequences
        options.n_batch, options.n_ubatch = _BATCH, 512
        options.n_threads = options.n_threads_batch = case.threads
        options.n_seq_max = case.sequences
        self._context = lib.llama_init_from_model(self._model, options)
        if not self._context:
            raise BinhdanError(f"llama.cpp cannot allocate a context of {options.n_ctx} tokens")
        self._vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self._model))
        self._batch = lib.llama_batch_init(max(_BATCH, case.sequences), 0, 1)
        self._random = random.Random(0)

    def clear(self) -> None:
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), True)

    def prompt(self, sequence: int, position: int, tokens: int) -> None:
        """Appends `tokens` tokens to a sequence of `position` tokens."""
        for begin in range(position, position + tokens, _BATCH):
            end = min(begin + _BATCH, position + tokens)
            self._decode([(sequence, at, at + 1 == position + tokens) for at in range(begin, end)])

    def step(self, sequences: int, position: int) -> None:
        """Appends one token to each of `sequences` sequences of `position` tokens."""
        self._decode([(sequence, position, True) for sequence in range(sequences)])

    def logits(self, tokens: Sequence[int]) -> Any:
        """Logits of every position of a text: numpy float32, shape (tokens, vocabulary)."""
        import numpy as np

        self.clear()
        self._decode([(0, at, True) for at in range(len(tokens))], tokens)
        rows = (self._lib.llama_get_logits_ith(self._context, i) for i in range(len(tokens)))
        return np.array([np.ctypeslib.as_array(row, (self._vocabulary,)) for row in rows])

    def _decode(self, rows: Sequence[tuple[int, int, bool]], tokens: Sequence[int] | None = None) -> None:
        """Computes rows of (sequence, position, compute logits). `tokens` None: random ones."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for i, (sequence, position, logits) in enumerate(rows):
            batch.token[i] = tokens[i] if tokens else self._random.randrange(self._vocabulary)
            batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = position, 1, sequence
            batch.logits[i] = logits
        if status := self._lib.llama_decode(self._context, batch):
            raise BinhdanError(f"llama_decode failed with status {status}")
        self._lib.llama_synchronize(self._context)


class Generator:
    """Greedy text generation for one request at a time.

    llama-cpp-python computes only the part of a prompt that differs from the previous prompt. Raises
    UnsupportedError without llama-cpp-python, BinhdanError for a file that it cannot load.
    """

    def __init__(self, path: Path, *, context: int, threads: int) -> None:
        lib = module()
        self.version = f"llama-cpp-python {lib.__version__}"
        try:
            self._llama = lib.Llama(
                str(path),
                n_ctx=context,
                n_batch=_BATCH,
                n_threads=threads,
                n_threads_batch=threads,
                verbose=False,
            )
        except ValueError as error:
            raise BinhdanError(f"llama.cpp cannot load {path}: {error}") from error
        self._is_end = lib.llama_vocab_is_eog
        self._vocabulary = lib.llama_model_get_vocab(self._llama.model)

    def time(self, prompt: list[int], tokens: int) -> tuple[float, float]:
        """Generates `tokens` tokens, past any end token. Returns when the first and the last were ready,
        by time.perf_counter."""
        generated = self._greedy(prompt)
        next(generated)
        first = time.perf_counter()
        for _ in islice(generated, tokens - 1):
            pass
        return first, time.perf_counter()

    def answer(self, prompt: list[int], max_tokens: int) -> list[int]:
        """Tokens up to the end token, `max_tokens` at most."""
        answer: list[int] = []
        for token in islice(self._greedy(prompt), max_tokens):
            if self._is_end(self._vocabulary, token):
                break
            answer.append(token)
        return answer

    def _greedy(self, prompt: list[int]) -> Iterator[int]:
        return iter(self._llama.generate(prompt, temp=0.0, repeat_penalty=1.0))


class Embedder:
    """Embeddings of many texts in shared batches. Raises BinhdanError if llama.cpp cannot load it."""

    def __init__(self, path: Path, *, threads: int) -> None:
        try:
            self._llama = module().Llama(
                str(path),
                embedding=True,
                n_ctx=_BATCH,
                n_batch=_BATCH,
                n_ubatch=_BATCH,
                n_threads=threads,
                n_threads_batch=threads,
                verbose=False,
            )
        except ValueError as error:
            raise BinhdanError(f"llama.cpp cannot load {path}: {error}") from error

    def embed(self, texts: list[str]) -> list[list[float]]:
        return list(self._llama.embed(texts, normalize=True))


def time_case(case: Case) -> Times:
    passes = ForwardPasses(case)
    return Times(
        prompt=_time_prompt(passes, case) if case.prompt else None,
        decode=_time_decode(passes, case) if case.decode else None,
        version=module().__version__,
        instruction_sets=instruction_sets(),
    )


def _time_prompt(passes: ForwardPasses, case: Case) -> float:
    passes.prompt(0, 0, case.prompt)  # warm-up
    passes.clear()
    passes.prompt(0, 0, case.depth)
    start = time.perf_counter()
    passes.prompt(0, case.depth, case.prompt)
    return time.perf_counter() - start


def _time_decode(passes: ForwardPasses, case: Case) -> float:
    passes.clear()
    passes.step(case.sequences, 0)  # warm-up
    passes.clear()
    for sequence in range(case.sequences):
        passes.prompt(sequence, 0, case.depth)
    start = time.perf_counter()
    for i in range(case.decode):
        passes.step(case.sequences, case.depth + i)
    return time.perf_counter() - start


def instruction_sets() -> str:
    """The enabled names of "CPU : SSE3 = 1 | AVX2 = 1 | …"."""
    fields = module().llama_print_system_info().decode().replace(":", "|").split("|")
    return " ".join(name.strip() for name, _, on in (f.partition("=") for f in fields) if on.strip() == "1")


if __name__ == "__main__":
    try:
        print(time_case(Case.from_json(sys.argv[1])).to_json())
    except Exception as error:
        sys.exit(str(error))
