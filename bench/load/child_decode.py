"""`python -m binhdan.bench.load.child_decode WORK`: decodes the same prompts as a server, without HTTP or
asyncio.

The only code between the engine and this caller is one blocking call per token.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter

from binhdan.runtime.client.model import Model, find_model
from binhdan.runtime.options import GenerationOptions, LoadOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Answers of `answer_tokens` tokens to each batch of prompts. The prompts of a batch run together."""

    model: str | None
    threads: int | None
    sequences: int
    answer_tokens: int
    batches: list[list[str]]

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """Seconds per token of a batch's answers."""

    engine: float  # from the first token to the last, by the engine's clock; median of the answers
    wall: float  # from the request to the end of the last answer, by the caller's clock


def main(work: Work) -> list[Decoded]:
    options = LoadOptions(threads=work.threads, max_sequences=work.sequences)
    with Model(find_model(work.model), options) as model:
        decode(model, max(work.batches, key=len), work.answer_tokens)  # warm-up
        return [decode(model, prompts, work.answer_tokens) for prompts in work.batches]


def decode(model: Model, prompts: Sequence[str], answer_tokens: int) -> Decoded:
    library, engine = model.native_handles()
    options = GenerationOptions(max_tokens=answer_tokens, ignore_eos=True)
    queue = library.create_queue(engine)
    start = perf_counter()
    try:
        tokens = [model.tokenizer.text_prompt(prompt).tokens for prompt in prompts]
        running = {library.submit(engine, queue, one, options, 0, False) for one in tokens}
        engine_seconds = []
        while running:
            event = library.next_event(queue, 1000)
            if event is not None and event.kind == "finished":
                if event.error or event.answer_tokens != answer_tokens:
                    raise RuntimeError(
                        f"expected {answer_tokens} tokens of answer, got {event.answer_tokens}: {event.text}"
                    )
                engine_seconds.append(event.decode_ns / 1e9 / (answer_tokens - 1))
                running.remove(event.request)
        wall = (perf_counter() - start) / answer_tokens
        return Decoded(engine=median(engine_seconds), wall=wall)
    finally:
        library.close_queue(queue)


if __name__ == "__main__":
    try:
        results = main(Work(**json.loads(sys.argv[1])))
    except Exception as error:
        sys.exit(str(error))
    print(json.dumps([asdict(one) for one in results]))
