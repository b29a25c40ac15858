"""Small vocabularies, learned from a Vietnamese text, models with them, and texts to compare on."""

from __future__ import annotations

import io
import random
import struct
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import gguf
import numpy as np
import sentencepiece
from tiny_models import Shape, tensor_shapes

_CORPUS: Final = Path(__file__).parents[1] / "README.vi.md"
_PIECES: Final = [
    *"aăâbcdđeêghiklmnoôơpqrstuưvxy", *"AĂĐÊÔƠƯZ019.,!?-#()\"'/:%",
    *("à", "ệ", "ữ", "Ộ", "ẵ", "ng", "nh", "Việt", "người", "không", "hoà", "hòa"),
    *(" ", " ", " ", "  ", "\n", "\t", "\u00a0", "\u3000", "\u200b", "\x07", "\x85"),
    *("ﬁ", "½", "²", "Ⅷ", "㍿", "ﷺ", "ｶﾞ", "Ａ", "ǅ", "İ", "ß", "Σς", "e\u0301", "\u0323", "\u0301"),
    *("漢字", "かな", "한국", "🦙", "👩\u200d👩", "\ufffd", "_", "▁", "<0x41>", "~", "$", "«"),
]  # fmt: skip


def lines() -> list[str]:
    return [line.strip() for line in _CORPUS.read_text("utf-8").splitlines() if line.strip()]


def texts(count: int, seed: int, form: str | None) -> Iterator[str]:
    """Sentences of the corpus and random strings, in NFC or NFD, or as they are (mixed)."""
    draw = random.Random(seed)
    sentences = lines()
    for i in range(count):
        text = draw.choice(sentences) if i % 4 == 0 else "".join(draw.choices(_PIECES, k=draw.randint(0, 16)))
        if form is None:
            yield "".join(unicodedata.normalize(draw.choice(("NFC", "NFD")), c) for c in text)
        else:
            yield unicodedata.normalize(form, text)


def write_zero_model(path: Path, rows: int, add_keys: Callable[[gguf.GGUFWriter], None]) -> Path:
    """Writes a llama model of one small layer with `rows` tokens, whose keys `add_keys` adds."""
    shape = Shape(layers=1, width=32, feed_forward=32, heads=1, kv_heads=1, head_dim=32, tied=True)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    add_keys(writer)
    for name, dims in tensor_shapes(shape).items():
        size = (rows, shape.width) if name == "token_embd.weight" else dims
        writer.add_tensor(name, np.zeros(size, np.float16 if len(dims) == 2 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


# ---- SentencePiece -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class UnigramOptions:
    byte_fallback: bool = False
    remove_extra_whitespaces: bool = True
    add_dummy_prefix: bool = True
    normalization: str = "nmt_nfkc"
    split_by_whitespace: bool = True


@cache
def train_unigram(options: UnigramOptions) -> sentencepiece.SentencePieceProcessor:
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines() * 2),
        model_writer=out,
        model_type="unigram",
        vocab_size=600 if options.byte_fallback else 350,
        normalization_rule_name=options.normalization,
        byte_fallback=options.byte_fallback,
        remove_extra_whitespaces=options.remove_extra_whitespaces,
        add_dummy_prefix=options.add_dummy_prefix,
        split_by_whitespace=options.split_by_whitespace,
        user_defined_symbols=[],
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields of a protocol buffer: number and contents."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = varint()
        if tag & 7 == 2:
            size = varint()
            yield tag >> 3, message[at : at + size]
            at += size
        elif tag & 7 == 0:
            varint()
        else:
            at += {1: 8, 5: 4}[tag & 7]


def charsmap_of(processor: sentencepiece.SentencePieceProcessor) -> bytes:
    """ModelProto.normalizer_spec (3) .precompiled_charsmap (2)."""
    normalizer = dict(_fields(processor.serialized_model_proto()))[3]
    return dict(_fields(normalizer)).get(2, b"")


def add_unigram_keys(
    writer: gguf.GGUFWriter, processor: sentencepiece.SentencePieceProcessor, options: UnigramOptions
) -> None:
    kinds = gguf.TokenType
    size = processor.vocab_size()
    writer.add_tokenizer_model("t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([processor.id_to_piece(i) for i in range(size)])
    writer.add_token_scores([processor.get_score(i) for i in range(size)])
    writer.add_token_types(
        [
            kinds.UNKNOWN if processor.is_unknown(i)
            else kinds.CONTROL if processor.is_control(i)
            else kinds.BYTE if processor.is_byte(i)
            else kinds.NORMAL
            for i in range(size)
        ]
    )  # fmt: skip
    writer.add_unk_token_id(processor.unk_id())
    writer.add_bos_token_id(processor.bos_id())
    writer.add_eos_token_id(processor.eos_id())
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)
    writer.add_add_space_prefix(options.add_dummy_prefix)
    writer.add_remove_extra_whitespaces(options.remove_extra_whitespaces)
    if charsmap := charsmap_of(processor):
        writer.add_precompiled_charsmap(charsmap)


def pack_charsmap(units: list[int], replacements: bytes) -> bytes:
    return struct.pack(f"<I{len(units)}I", 4 * len(units), *units) + replacements
