"""Prompt and decode speed of one model, and the share of the memory bandwidth that decode reaches.

One decode step reads every weight once, and the keys and values of all previous tokens. Memory bandwidth is
therefore the limit of decode speed.
"""

from __future__ import annotations

import random
import resource
from dataclasses import dataclass
from statistics import median

import binhdan
from binhdan.bench.common.machine import peak_rss_bytes
from binhdan.bench.micro.case import bytes_of_step
from binhdan.runtime import ffi as library
from binhdan.runtime.client.model import Model
from binhdan.runtime.results import Answer


@dataclass(frozen=True, slots=True)
class Speed:
    """Medians over the runs. Rates are tokens per second; gigabytes are 10^9 bytes."""

    prompt_tokens_per_s: float
    decode_tokens_per_s: float
    ttft_ms: float  # from submitting the prompt to the first token
    gb_per_s: float  # weights, keys and values that decode reads
    bandwidth_share: float  # of bandwidth_gb_per_s; above 1 when the weights fit into the processor's cache
    bandwidth_gb_per_s: float  # measured with the same threads, before and after
    peak_rss_bytes: int  # of this process, including Python
    isa: str
    threads: int
    model: str
    prompt_tokens: int
    decode_tokens: int
    runs: int
    prompt_spread: tuple[float, float]  # slowest and fastest run
    decode_spread: tuple[float, float]


def measure(model: Model, *, prompt: int, decode: int, runs: int) -> Speed:
    """Times `runs` answers of `decode` tokens to prompts of `prompt` random tokens, after one warm-up answer.

    Raises InvalidArgumentError for sizes that are too small, TooLargeError for more tokens than the context.
    """
    if prompt < 1 or decode < 2 or runs < 1:
        raise binhdan.InvalidArgumentError(
            f"expected at least 1 token of prompt, 2 of decode and 1 run, got {prompt}, {decode} and {runs}"
        )
    if prompt + decode - 1 > model.context:
        raise binhdan.TooLargeError(
            f"prompt {prompt} and decode {decode} need a context of {prompt + decode - 1}, "
            f"the model has {model.context}"
        )
    threads = model.engine_info()["threads"]
    core = library.library()
    before = core.measure_bandwidth(threads)
    answers = [answer(model, prompt, decode, seed=run) for run in range(runs + 1)][1:]
    bandwidth = max(before, core.measure_bandwidth(threads))

    prompt_rates = sorted(prompt / answer.timings.prefill for answer in answers)
    decode_rates = sorted(answer.tokens_per_second for answer in answers)
    read_per_s = median(decode_rates) * bytes_of_step(model.info, prompt + (decode - 1) / 2)
    return Speed(
        prompt_tokens_per_s=median(prompt_rates),
        decode_tokens_per_s=median(decode_rates),
        ttft_ms=median(answer.timings.ttft for answer in answers) * 1e3,
        gb_per_s=read_per_s / 1e9,
        bandwidth_share=read_per_s / bandwidth,
        bandwidth_gb_per_s=bandwidth / 1e9,
        peak_rss_bytes=peak_rss_bytes(resource.getrusage(resource.RUSAGE_SELF)),
        isa=model.info.isa,
        threads=threads,
        model=model.path.name,
        prompt_tokens=prompt,
        decode_tokens=decode,
        runs=runs,
        prompt_spread=(prompt_rates[0], prompt_rates[-1]),
        decode_spread=(decode_rates[0], decode_rates[-1]),
    )


def answer(model: Model, prompt: int, decode: int, seed: int) -> Answer:
    """Decodes `decode` tokens after a prompt of `prompt` random tokens."""
    # New random tokens for each run: no part of the prompt may come from a prefix cache.
    tokens = random.Random(seed).choices(range(model.info.vocabulary), k=prompt)
    return model.complete(tokens, max_tokens=decode, ignore_eos=True)
