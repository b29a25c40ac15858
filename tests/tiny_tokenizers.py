"""Small tokenizers of each kind, as transformers makes them, learned from a Vietnamese text."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers
from quantize_helpers import edit_json
from tiny_models import SMALL, write_checkpoint
from tiny_vocabularies import UnigramOptions, charsmap_of, lines, train_unigram
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from binhdan.quantize.checkpoint import open_checkpoint
from binhdan.quantize.tokenizer import Vocabulary, read_vocabulary


def convert(
    folder: Path,
    tokenizer: tokenizers.Tokenizer | dict[str, Any],
    model_type: str = "llama",
    **tokenizer_config: Any,
) -> Vocabulary:
    spec = tokenizer if isinstance(tokenizer, dict) else json.loads(tokenizer.to_str())
    write_checkpoint(folder, SMALL)
    (folder / "tokenizer.json").write_text(json.dumps(spec), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config), "utf-8")
    (folder / "generation_config.json").unlink()
    edit_json(folder / "config.json", model_type=model_type, bos_token_id=None, eos_token_id=None)
    model = spec["model"]["vocab"]
    return read_vocabulary(
        open_checkpoint(folder), max(len(model), *(t["id"] + 1 for t in spec["added_tokens"]))
    )


def add_ends(tokenizer: tokenizers.Tokenizer, first: str | None, last: str | None) -> None:
    ends = [token for token in (first, last) if token is not None]
    tokenizer.add_special_tokens(ends)
    single = [*([first] if first else []), "$A", *([last] if last else [])]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[(token, tokenizer.token_to_id(token)) for token in ends]
    )


def xlm_roberta() -> tokenizers.Tokenizer:
    processor = train_unigram(UnigramOptions())
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.vocab_size())]
    tokenizer = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=processor.unk_id(), byte_fallback=False))
    tokenizer.normalizer = normalizers.Precompiled(charsmap_of(processor))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    add_ends(tokenizer, "<s>", "</s>")
    tokenizer.add_special_tokens([tokenizers.AddedToken("<mask>", lstrip=True)])
    return tokenizer


def bert(lowercase: bool) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=500, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False
    )
    tokenizer.train_from_iterator(lines(), trainer)
    add_ends(tokenizer, "[CLS]", "[SEP]")
    return tokenizer


def gemma(prefix: bool = False) -> tokenizers.Tokenizer:
    """As transformers makes Gemma's: BPE of characters with byte fallback, and no space prefix."""
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    # For training only: Gemma's vocabulary has no token of line breaks and other characters.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex("\n+"), "isolated")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    special = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([line.replace(" ", "\n", 1) for line in lines()], trainer)
    spec = json.loads(tokenizer.to_str())
    spec["added_tokens"] = spec["added_tokens"][:4]
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(spec))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    add_ends(tokenizer, "<bos>", None)
    return tokenizer


def sentencepiece_bpe() -> tuple[sentencepiece.SentencePieceProcessor, dict[str, Any]]:
    """A BPE of SentencePiece, and tokenizer.json as transformers converts it (Gemma 3)."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines()),
        model_writer=out,
        model_type="bpe",
        vocab_size=700,
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    vocab = {processor.id_to_piece(i): i for i in range(processor.vocab_size())}
    merges = []
    for text in sorted(vocab, key=lambda text: -processor.get_score(vocab[text])):
        cuts = [(text[:i], text[i:]) for i in range(1, len(text))]
        found = [(left, right) for left, right in cuts if left in vocab and right in vocab]
        merges += sorted(found, key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
    spec = json.loads(gemma().to_str())
    spec["added_tokens"] = [
        spec["added_tokens"][0] | {"id": i, "content": text} for text, i in vocab.items() if i < 3
    ]
    spec["model"] |= {"vocab": vocab, "merges": merges}
    return processor, spec | {"post_processor": None}
