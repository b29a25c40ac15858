"""pytest-benchmark suite of the code that every request runs, run by `binhdan bench hot-paths`: tokenizer,
detokenizer, chat template, sampler, kernels, HTTP. It uses only the public interface and binhdan._native, so
that the same file can measure an older build.

extra_info["gate"]: a slower build fails. The other paths are informational: much of their time is spent in
the operating system or in other packages.
"""

from __future__ import annotations

import http.client
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import binhdan
import binhdan.bench
from binhdan import _native

TEXT = (
    "Bình dân học vụ là phong trào xóa nạn mù chữ trong toàn dân, được phát động ngày 8 tháng 9 năm 1945. "
    "Ai biết chữ dạy người chưa biết, chồng dạy vợ, con dạy cha mẹ, ở đình làng, ngoài chợ, trên ghe xuồng. "
) * 5
VOCABULARY = 151_936  # of Qwen2: a large one for a small model
BEST = _native.isas()[-1]
# Whether the interpreter has the build that this file belongs to. With `--against` it can have an older one.
THIS_BUILD = Path(binhdan.bench.__file__).parent.samefile(Path(__file__).parents[1])


@pytest.fixture(scope="module")
def model() -> Iterator[binhdan.Model]:
    with binhdan.load(threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def logits() -> np.ndarray[Any, np.dtype[np.float32]]:
    return 2 * np.random.default_rng(0).standard_normal(VOCABULARY, dtype=np.float32)


def test_tokenize(benchmark: Any, model: binhdan.Model) -> None:
    benchmark.extra_info.update(gate=True, unit=f"{len(TEXT)} characters")
    benchmark(model.tokenize, TEXT)


def test_detokenize(benchmark: Any, model: binhdan.Model) -> None:
    tokens = model.tokenize(TEXT)
    benchmark.extra_info.update(gate=True, unit=f"{len(tokens)} tokens")
    assert benchmark(model.detokenize, tokens) == TEXT


def test_chat_template(benchmark: Any, model: binhdan.Model) -> None:
    messages: list[binhdan.Message] = [
        {"role": role, "content": TEXT[:400]} for role in ("user", "assistant") * 3
    ]
    benchmark.extra_info.update(gate=True, unit="6 messages of 400 characters")
    benchmark(model.chat_tokens, [*messages, {"role": "user", "content": "Vậy sao?"}])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.7, "top_k": 40},
        {"temperature": 0.7, "top_p": 0.95},
        {"temperature": 1.0, "min_p": 0.05},
    ],
    ids=["greedy", "top-k", "top-p", "min-p"],
)
def test_sampler(benchmark: Any, logits: Any, settings: dict[str, Any]) -> None:
    benchmark.extra_info.update(gate=True, unit=f"one token, vocabulary of {VOCABULARY:,}")
    benchmark(_native.sample, logits, **settings)


@pytest.mark.parametrize("rows", [1, 64], ids=["decode", "prompt"])
@pytest.mark.parametrize("name", ["Q4_0", "Q8_0"])
def test_matmul(benchmark: Any, name: str, rows: int) -> None:
    random = np.random.default_rng(0)
    weights = _native.encode(name, random.standard_normal(1024 * 1024, dtype=np.float32), search=False)
    x = random.standard_normal((rows, 1024), dtype=np.float32)
    product = _native.Matmul(BEST, name, weights, 1024, 1024, x, rows > 1)
    benchmark.extra_info.update(gate=True, unit=f"{rows} x 1024 x 1024, {BEST}")
    benchmark(product.run)


def test_one_token(benchmark: Any, model: binhdan.Model) -> None:
    """One request through the engine with a minimum of arithmetic."""
    benchmark.extra_info.update(gate=True, unit="prompt of 1 token, answer of 1 token")
    token = model.tokenize(" một")
    benchmark(lambda: model.complete(token, max_tokens=1, ignore_eos=True))


def servers_module() -> Any:
    """The module that starts servers. An older build without it has no HTTP paths; in this build, a failed
    import is an error."""
    try:
        return importlib.import_module("binhdan.bench.load.servers")
    except ModuleNotFoundError:
        if THIS_BUILD:
            raise
        pytest.skip("this older build has no binhdan.bench.load.servers")


@pytest.fixture(scope="module")
def server() -> Iterator[http.client.HTTPConnection]:
    pytest.importorskip("uvicorn", reason="pip install 'binhdan[server]'")
    with servers_module().binhdan_server(threads=1).run() as running:
        connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=60)
        yield connection
        connection.close()


def test_http_alive(benchmark: Any, server: http.client.HTTPConnection) -> None:
    benchmark.extra_info.update(gate=False, unit="GET /livez on an open connection")

    def request() -> int:
        server.request("GET", "/livez")
        response = server.getresponse()
        response.read()
        return response.status

    assert benchmark(request) == 200


def test_http_one_token(benchmark: Any, server: http.client.HTTPConnection) -> None:
    benchmark.extra_info.update(gate=False, unit="a chat with an answer of 1 token on an open connection")
    body = json.dumps({"messages": [{"role": "user", "content": "xin chào"}], "max_tokens": 1})

    def request() -> int:
        server.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        response = server.getresponse()
        response.read()
        return response.status

    assert benchmark(request) == 200
