"""The tokenizer: byte-level BPE over NFC text, digits one by one, and ChatML's control tokens.

    python -m train_tiny_vi.tokenizer train_tiny_vi/config.toml

The training text is every document, plus one in five without marks and one in twenty in capitals. So a bare
syllable and its marked form are one token each.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Final

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from train_tiny_vi.config import read_config
from train_tiny_vi.corpus import Document, read_documents
from train_tiny_vi.text import strip_marks

END_OF_TEXT: Final = "<|endoftext|>"
START: Final = "<|im_start|>"
END: Final = "<|im_end|>"
CONTROL: Final = (END_OF_TEXT, START, END)  # ids 0, 1, 2

# Qwen2's pattern; runtimes recognize it by the name qwen2.
PATTERN: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _variants(documents: Iterable[Document], rng: Random) -> Iterator[str]:
    for document in documents:
        yield document.text
        if rng.random() < 0.2:
            yield strip_marks(document.text)
        if rng.random() < 0.05:
            yield document.text.upper()


def train_tokenizer(documents: Iterable[Document], size: int, seed: int = 1) -> Tokenizer:
    """Returns a tokenizer of `size` tokens, control tokens first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(CONTROL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_variants(documents, Random(seed)), trainer)
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """Raises ValueError if the control tokens differ from those of this recipe."""
    tokenizer = Tokenizer.from_file(str(path))
    ids = [tokenizer.token_to_id(token) for token in CONTROL]
    if ids != [0, 1, 2]:
        raise ValueError(f"{path.name}: expected {', '.join(CONTROL)} with the ids 0, 1, 2; got {ids}")
    return tokenizer


def chat_ids(tokenizer: Tokenizer, question: str) -> list[int]:
    """Returns the ids of a question in ChatML up to the answer. Text and markup are tokenized separately."""
    encode = tokenizer.encode
    user = encode(f"user\n{question}", add_special_tokens=False).ids
    return [1, *user, 2, *encode("\n").ids, 1, *encode("assistant\n").ids]


def write_tokenizer_config(path: Path, context: int) -> None:
    """Writes tokenizer_config.json: the end tokens and the chat template."""
    fields = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": END_OF_TEXT,
        "bos_token": None,
        "add_bos_token": False,
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    path.write_text(json.dumps(fields, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    config = read_config(Path(sys.argv[1]))
    config.work.mkdir(parents=True, exist_ok=True)
    if config.start:
        shutil.copyfile(config.start / "tokenizer.json", config.tokenizer)
    else:
        train_tokenizer(read_documents(config.documents("train")), config.tokenizer_size).save(
            str(config.tokenizer)
        )
    print(load_tokenizer(config.tokenizer).get_vocab_size(), "tokens")


if __name__ == "__main__":
    main()
