"""LoRA adapters: the oracle has the change added to the weights in float64."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from adapters import Pairs, change, random_pairs, write_adapter
from gguf_damage import REJECTIONS
from reference_forward import ReferenceModel, mean_kl
from tiny_models import Shape, tensor_shapes, write_gguf

import binhdan
from binhdan import _native
from binhdan.runtime.errors import BinhdanError, from_status

# As for float weights in test_forward.py.
LIMIT = {"amx": 2e-4}
FLOAT_LIMIT = 2e-5
LENGTHS = (1, 8, 9, 40, 70)  # tokens: prepared by each thread, or by all together; more than a KV page
TOKENS = [3 + 7 * i % 317 for i in range(LENGTHS[-1])]

SHAPES = (
    Shape(),
    Shape(tied=True, heads=3, kv_heads=3, head_dim=80, width=192, feed_forward=224),
    Shape("qwen3"),
    Shape("gemma3"),
    Shape("gemma4"),
    Shape("phi3"),
    Shape("qwen35"),
    Shape("lfm2"),
)


def matrices(shape: Shape) -> dict[str, tuple[int, ...]]:
    """The matrices that an adapter may change."""
    shapes = tensor_shapes(shape)
    return {
        name: dims
        for name, dims in shapes.items()
        if len(dims) == 2 and (name.startswith("blk.") or name == "output.weight") and "conv" not in name
    }


def merged(file: Path, pairs: Pairs, alpha: float = 4.0) -> ReferenceModel:
    model = ReferenceModel(file)
    for name, pair in pairs.items():
        model.weights[name] = model.weights[name] + change(pair, alpha)
    return model


@pytest.mark.parametrize("isa", _native.isas())
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.architecture + ("-tied" * shape.tied))
def test_logits_are_those_of_merged_weights(shape: Shape, isa: str, tmp_path: Path) -> None:
    file, pairs = write_gguf(tmp_path / "model.gguf", shape), random_pairs(matrices(shape))
    write_adapter(tmp_path / "adapter.gguf", pairs, shape.architecture)
    expected, plain = merged(file, pairs).logits(TOKENS), ReferenceModel(file).logits(TOKENS)
    assert mean_kl(expected, plain) > 0.05
    with binhdan.load(file, isa=isa, threads=2) as model:
        adapter = model.load_adapter(tmp_path / "adapter.gguf")
        assert adapter.rank == 4 and adapter.parameters == sum(a.size + b.size for a, b in pairs.values())
        got = np.array([model.logits(TOKENS[:n], adapter=adapter) for n in LENGTHS])
        alone = np.array([model.logits(TOKENS[:n]) for n in LENGTHS])
    at = np.array(LENGTHS) - 1
    limit = LIMIT.get(isa, FLOAT_LIMIT)
    assert mean_kl(expected[at], got) < limit
    assert mean_kl(plain[at], alone) < limit


# Values of float32 are rounded to float16.
@pytest.mark.parametrize("type", ["F16", "F32"])
@pytest.mark.parametrize("rank", [1, 16, 33])
def test_ranks_and_alpha(rank: int, type: str, tmp_path: Path) -> None:
    shape = Shape()
    file = write_gguf(tmp_path / "model.gguf", shape)
    shapes = {name: dims for name, dims in matrices(shape).items() if "attn_q" in name or "ffn_down" in name}
    pairs = random_pairs(shapes, rank, dtype=np.float16 if type == "F16" else np.float32)
    write_adapter(tmp_path / "adapter.gguf", pairs, "llama", alpha=rank * 0.5, type=type)
    expected = merged(file, pairs, rank * 0.5).logits(TOKENS)
    with binhdan.load(file, threads=1) as model, model.load_adapter(tmp_path / "adapter.gguf") as adapter:
        assert adapter.rank == rank
        got = np.array([model.logits(TOKENS[:n], adapter=adapter) for n in LENGTHS])
    assert mean_kl(expected[np.array(LENGTHS) - 1], got) < FLOAT_LIMIT


def write_two(tmp_path: Path) -> tuple[Path, list[Path]]:
    shape = Shape()
    file = write_gguf(tmp_path / "model.gguf", shape)
    adapters = [
        write_adapter(tmp_path / f"{i}.gguf", random_pairs(matrices(shape), rank, seed=i), "llama")
        for i, rank in enumerate((2, 8), 1)
    ]
    return file, adapters


def test_adapters_share_a_batch_and_no_keys_and_values(tmp_path: Path) -> None:
    file, paths = write_two(tmp_path)
    options = {"max_tokens": 30, "ignore_eos": True}
    with binhdan.load(file, threads=2, deterministic=True) as model:
        adapters = [None, *map(model.load_adapter, paths)]
        first = [model.complete(TOKENS, adapter=adapter, **options) for adapter in adapters]
        assert len({answer.tokens for answer in first}) == 3
        assert [answer.cached_tokens for answer in first] == [0, 0, 0]
        streams = [
            model.complete(TOKENS, adapter=adapter, stream=True, **options) for adapter in adapters * 2
        ]
        again = [stream.answer() for stream in streams]
        assert [answer.tokens for answer in again] == [answer.tokens for answer in first] * 2
        assert all(answer.cached_tokens >= 64 for answer in again)
        adapters[1].close()
        with pytest.raises(binhdan.InvalidArgumentError, match="is closed"):
            model.complete(TOKENS, adapter=adapters[1])
        with (
            binhdan.load(file, threads=1) as other,
            pytest.raises(binhdan.InvalidArgumentError, match="same model"),
        ):
            other.complete(TOKENS, adapter=adapters[2])


def test_a_session_belongs_to_its_adapter(tmp_path: Path) -> None:
    file, paths = write_two(tmp_path)
    with binhdan.load(file, threads=1) as model:
        adapter = model.load_adapter(paths[0])
        session = model.session(adapter=adapter)
        session.ask("một hai ba bốn năm " * 5, max_tokens=8)
        session.save(tmp_path / "a.session")
    with binhdan.load(file, threads=1) as model:
        adapter = model.load_adapter(paths[0])
        for wrong in (None, model.load_adapter(paths[1])):
            with pytest.raises(binhdan.UnsupportedError):
                model.load_session(tmp_path / "a.session", adapter=wrong)
        loaded = model.load_session(tmp_path / "a.session", adapter=adapter)
        assert loaded.ask("sáu", max_tokens=4).cached_tokens >= 64


def test_refused_adapters(tmp_path: Path) -> None:
    shape = Shape()
    file, path = write_gguf(tmp_path / "model.gguf", shape), tmp_path / "adapter.gguf"
    pairs = random_pairs({"blk.0.attn_q.weight": (256, 256), "blk.1.ffn_up.weight": (256, 256)})
    a, b = pairs["blk.0.attn_q.weight"]
    with binhdan.load(file, threads=1) as model:
        for message, kind, arguments in [
            (
                "for architecture 'qwen2', but the model is of llama",
                binhdan.UnsupportedError,
                (pairs, "qwen2", {}),
            ),
            (
                "expected \"adapter\", got 'model'",
                binhdan.BadFormatError,
                (pairs, "llama", {"keys": {"general.type": "model"}}),
            ),
            (
                'expected "lora"',
                binhdan.UnsupportedError,
                (pairs, "llama", {"keys": {"adapter.type": "other"}}),
            ),
            (
                "alora",
                binhdan.UnsupportedError,
                (pairs, "llama", {"keys": {"adapter.alora.invocation_tokens": "x"}}),
            ),
            (
                "has no partner",
                binhdan.BadFormatError,
                (pairs, "llama", {"drop": ["blk.0.attn_q.weight.lora_b"]}),
            ),
            (
                "needs 4 rows of 256 columns",
                binhdan.BadFormatError,
                ({"blk.0.attn_q.weight": (a[:, :64], b)}, "llama", {}),
            ),
            (
                "needs 256 rows of 4",
                binhdan.BadFormatError,
                ({"blk.0.attn_q.weight": (a, b[:32])}, "llama", {}),
            ),
            (
                "no matrix 'blk.9.attn_q.weight'",
                binhdan.UnsupportedError,
                ({"blk.9.attn_q.weight": (a, b)}, "llama", {}),
            ),
            (
                "no matrix 'token_embd.weight'",
                binhdan.UnsupportedError,
                ({"token_embd.weight": (a, b)}, "llama", {}),
            ),
            (
                "no matrix 'blk.0.attn_norm.weight'",
                binhdan.UnsupportedError,
                ({"blk.0.attn_norm.weight": (a, b)}, "llama", {}),
            ),
            (
                "finite values",
                binhdan.BadFormatError,
                ({"blk.0.attn_q.weight": (a * np.float32("nan"), b)}, "llama", {}),
            ),
            ("changes no tensor", binhdan.BadFormatError, ({}, "llama", {})),
            ("finite changes", binhdan.BadFormatError, (pairs, "llama", {"alpha": float("inf")})),
        ]:
            write_adapter(path, arguments[0], arguments[1], **arguments[2])
            with pytest.raises(kind, match=message):
                model.load_adapter(path)
        with pytest.raises(binhdan.BadFormatError, match=r"general\.type"):
            model.load_adapter(file)
        with pytest.raises(binhdan.ModelNotFoundError):
            model.load_adapter(tmp_path / "none.gguf")
        with pytest.raises(binhdan.InvalidArgumentError, match="binhdan quantize"):
            model.load_adapter(tmp_path)
    write_adapter(path, pairs, "llama")
    with pytest.raises(binhdan.UnsupportedError, match="is an adapter, not a model"):
        binhdan.load(path)


def test_damaged_adapters(tmp_path: Path) -> None:
    file, path = write_gguf(tmp_path / "model.gguf", Shape()), tmp_path / "adapter.gguf"
    pairs = random_pairs({"blk.0.attn_q.weight": (256, 256), "blk.1.ffn_up.weight": (256, 256)})
    whole = write_adapter(path, pairs, "llama").read_bytes()
    header = len(whole) - 4 * 4 * 4 * 256  # the rest is data
    valid = tuple(type(from_status(status, "")) for status in REJECTIONS)
    random_numbers = random.Random(1)
    with binhdan.load(file, threads=1) as model:
        for i in range(400):
            damaged = bytearray(whole)
            if i % 4 == 0:
                del damaged[random_numbers.randrange(len(whole)) :]
            else:
                for _ in range(1 + i % 3):
                    damaged[random_numbers.randrange(header)] ^= 1 << random_numbers.randrange(8)
            path.write_bytes(damaged)
            try:
                with model.load_adapter(path) as adapter:
                    model.complete(TOKENS[:4], adapter=adapter, max_tokens=1)
            except BinhdanError as error:
                assert isinstance(error, valid), error
