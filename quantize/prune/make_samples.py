"""Makes quantize/data/frequency/samples.json.xz. quantize/data/frequency/README.md has the command.

    python quantize/prune/make_samples.py OUT --vi FILE.jsonl … --en WORDNET_FOLDER --code FOLDER

Each sample has about 40,000 characters: the starts of texts, evenly chosen.
"""

from __future__ import annotations

import argparse
import json
import lzma
import re
from pathlib import Path
from typing import Final

_CHARACTERS: Final = 40_000
_PART: Final = 800


def sample(texts: list[str]) -> str:
    step = max(1, len(texts) * _PART // _CHARACTERS)
    return "\n".join(text[:_PART] for text in texts[::step])[:_CHARACTERS]


def glosses(folder: Path) -> list[str]:
    """The definitions and examples of WordNet's data files."""
    lines = [line for file in sorted(folder.glob("data.*")) for line in file.read_text("utf-8").splitlines()]
    return [re.sub(r"\s+", " ", line.split("|", 1)[1]).strip() for line in lines if "|" in line]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--vi", type=Path, nargs="+", required=True)
    parser.add_argument("--en", type=Path, required=True)
    parser.add_argument("--code", type=Path, required=True)
    options = parser.parse_args()
    vietnamese = [json.loads(line)["text"] for file in options.vi for line in file.open(encoding="utf-8")]
    english = glosses(options.en)
    step = max(1, len(english) // 600)
    samples = {
        "vi": sample(vietnamese),
        "en": "\n".join(english[::step])[:_CHARACTERS],
        "code": sample([file.read_text("utf-8") for file in sorted(options.code.rglob("*.py"))]),
    }
    text = json.dumps(samples, ensure_ascii=False)
    options.output.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    print(
        options.output, {name: len(sample) for name, sample in samples.items()}, options.output.stat().st_size
    )


if __name__ == "__main__":
    main()
