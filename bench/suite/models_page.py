"""Writes the tables of docs/models.md from bench/results/models.json and bench/results/models-speed*.json.

    python -m binhdan.bench.suite.models_page --write     # from the root of the repository
    python -m binhdan.bench.suite.models_page --check     # fails when the page differs from the files

`tests/measure_models.py --write` measures models.json. A file models-speed*.json is written by
`python -m binhdan.bench.suite.performance_page --record` from the output of `binhdan bench peers` or
`binhdan bench embeddings`. The name of a measured model file begins with the name of its family:
gemma3-270m-Q4_K_M.gguf. A family without such a file has a dash.

The command replaces the lines between `<!-- models: PART -->` and `<!-- end models -->`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal

from binhdan.bench.common.files import write_whole
from binhdan.bench.common.results import (
    FOLDER,
    Measured,
    Number,
    Record,
    Results,
    Spread,
    load_as,
    load_results,
)
from binhdan.bench.suite.performance_page.tables import markdown, number, ratio_digits, table
from binhdan.runtime.errors import BadFormatError, BinhdanError

PAGE: Final = "docs/models.md"
COMMAND: Final = "python -m binhdan.bench.suite.models_page --write"
FILES: Final = "models*.json"  # in bench/results/
DASH: Final = "–"
ENCODER: Final = " †"  # after a figure that is 1 - cosine

RATIOS: Final = {"prompt_ratio": "prompt", "decode_ratio": "decode", "ratio": "texts"}

_BLOCK: Final = re.compile(
    r"(?P<open><!-- models: (?P<part>\w+) -->\n)(?P<body>.*?)(?P<close><!-- end models -->)", re.DOTALL
)


class Family(Record):
    """An architecture of GGUF files. The figures are KL divergences in nats, of encoders 1 - cosine."""

    name: str
    runs: bool
    encoder: bool
    checkpoints: list[str]  # the classes that `binhdan quantize` converts
    # type → the core against the float64 oracle
    oracle: dict[str, Number]
    transformers: Number | None  # the core against transformers, F32
    llama_cpp: Number | None  # llama.cpp against the float64 oracle, F32


class File(Record):
    """A published model file."""

    file: str
    family: str
    license: str
    packages: list[str]
    perplexity: Number | None
    llama_cpp: Number | None  # its perplexity
    cosine: Number | None  # of the embeddings, to those of `reference`
    reference: str | None


class Models(Measured):
    """models.json: what the core supports, and how near its results are to those of others."""

    kind: Literal["models"]
    vocabularies: list[str]  # values of tokenizer.ggml.model
    pretokenizers: list[str]
    types: list[str]
    families: list[Family]
    files: list[File]


def speeds(results: Sequence[Results], families: Sequence[str]) -> dict[str, str]:
    """Family → the ratios to llama.cpp of its first file. Raises BadFormatError for a file of no family."""
    found: dict[str, str] = {}
    for one in results:
        for row in one.rows:
            file = str(row["file"])
            names = [name for name in families if file.lower().startswith(name)]
            if not names:
                raise BadFormatError(
                    f"{one.title}: file {file}: expected a name that begins with one of {', '.join(families)}"
                )
            ratios = [
                f"{name} {number(value.median, ratio_digits(value.median))} ×"
                for key, name in RATIOS.items()
                if isinstance(value := row.get(key), Spread)
            ]
            if ratios and str(row["engine"]).startswith("llama"):
                found.setdefault(max(names, key=len), ", ".join(ratios))
    return found


def parts(models: Models, speed_files: Sequence[tuple[str, Results]]) -> dict[str, str]:
    """Part of the page → its Markdown."""
    return {
        "families": _families(
            models, speeds([one for _, one in speed_files], [f.name for f in models.families])
        ),
        "converted": _names(family.name for family in models.families if not family.runs),
        "vocabularies": _names(models.vocabularies),
        "pretokenizers": f"{len(models.pretokenizers)} pre-tokenizers: {_names(models.pretokenizers)}",
        "types": f"{len(models.types)} types: {_names(models.types)}",
        "files": _files(models),
        "speed": "\n\n".join(
            f"**{one.title}**\n\n{table(one)}\n\n[{name}](../{FOLDER}/{name}): {one.facts()}."
            for name, one in speed_files
        )
        or "No speed is recorded.",
        "measured": _measured(models),
    }


def _families(models: Models, speed: dict[str, str]) -> str:
    types = list(dict.fromkeys(name for family in models.families for name in family.oracle))
    rows = [
        [
            *("family", "GGUF", "converted from"),
            *(f"oracle, {name}" for name in types),
            *("transformers", "llama.cpp", "speed / llama.cpp's"),
        ]
    ]
    for one in models.families:
        figures = [*(one.oracle.get(name) for name in types), one.transformers, one.llama_cpp]
        rows.append(
            [f"`{one.name}`", "runs" if one.runs else "no", _names(one.checkpoints) or DASH]
            + [_scientific(value, one.encoder) for value in figures]
            + [speed.get(one.name, DASH)]
        )
    return markdown(rows, [False] * 3 + [True] * (len(types) + 2) + [False])


def _files(models: Models) -> str:
    rows = [["file", "family", "licence", "packages", "perplexity", "llama.cpp", "ratio", "embeddings"]]
    for one in models.files:
        ratio = one.perplexity / one.llama_cpp if one.perplexity and one.llama_cpp else None
        values = (one.perplexity, one.llama_cpp, ratio)
        ends = (f"`{one.packages[0]}`", f"`{one.packages[-1]}`")
        cosine = f"cosine {number(one.cosine, 5)} to {one.reference}" if one.cosine is not None else DASH
        rows.append(
            [f"`{one.file}`", f"`{one.family}`", one.license, " … ".join(dict.fromkeys(ends))]
            + [DASH if value is None else number(value, 3) for value in values]
            + [cosine]
        )
    return markdown(rows, [False] * 4 + [True] * 3 + [False])


def _measured(models: Models) -> str:
    commands = "\n".join(models.commands)
    versions = ", ".join(f"{name} {version}" for name, version in models.versions.items())
    link = f"[models.json](../{FOLDER}/models.json)"
    return f"```\n{commands}\n```\n\n{link}: {models.facts()}; {versions}."


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _scientific(value: Number | None, encoder: bool) -> str:
    return DASH if value is None else f"{value:.0e}{ENCODER if encoder else ''}"


def rewritten(root: Path) -> str:
    """The text of the page with all parts written anew. Raises BinhdanError."""
    text = (root / PAGE).read_text("utf-8")
    folder = root / FOLDER
    models = load_as(Models, folder / "models.json")
    paths = (path for path in folder.glob(FILES) if path.name != "models.json")
    files = sorted(paths, key=lambda path: path.stem)  # models-speed.json is the first
    written = parts(models, [(path.name, load_results(path)) for path in files])
    found = [match["part"] for match in _BLOCK.finditer(text)]
    if sorted(found) != sorted(written) or text.count("<!-- models:") != len(found):
        raise BadFormatError(
            f"{root / PAGE}: expected '<!-- models: PART -->' and '<!-- end models -->' once for each of "
            f"{', '.join(written)}; got {', '.join(found)}"
        )
    return _BLOCK.sub(lambda match: f"{match['open']}{written[match['part']]}\n{match['close']}", text)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="models_page", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="fail when the page differs from the files")
    action.add_argument("--write", action="store_true", help="write the tables into the page")
    parser.add_argument("--root", type=Path, default=Path(), help="root of the repository; default: here")
    options = parser.parse_args(arguments)
    page = options.root / PAGE
    try:
        text = rewritten(options.root)
        if options.write:
            write_whole(page, text)
        elif page.read_text("utf-8") != text:
            print(f"{PAGE} differs from the result files: run {COMMAND}", file=sys.stderr)
            return 1
    except (BinhdanError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
