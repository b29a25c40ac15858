"""The command: writes, checks and records."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from binhdan.bench.common.files import write_whole
from binhdan.bench.common.results import FOLDER, Results, load_results
from binhdan.bench.suite import models_page, performance_page, quantization_page
from binhdan.bench.suite.performance_page.record import record
from binhdan.bench.suite.performance_page.tables import table
from binhdan.runtime.errors import BadFormatError, BinhdanError, InvalidArgumentError

PAGES = ("docs/performance.md", "README.md", "README.vi.md")
COMMAND = "python -m binhdan.bench.suite.performance_page --write"

_BLOCK = re.compile(
    r"(?P<open><!-- results(?P<table> table)?: (?P<name>[\w.-]+\.json)(?: (?P<language>\w+))? -->\n)"
    r"(?P<body>.*?)(?P<close><!-- end results -->)",
    re.DOTALL,
)


def block(results: Results, link: str) -> str:
    """Commands, table, and a line with the file, the date, the machine and the conditions."""
    parts = ["```\n" + "\n".join(results.commands) + "\n```"] if results.commands else []
    parts.append(table(results))
    parts.append(f"[{Path(link).name}]({link}): {results.facts()}.")
    return "\n\n".join(parts)


def rewritten(page: Path, root: Path) -> str:
    """The text of `page` with all blocks written anew. Raises BinhdanError."""
    text = page.read_text("utf-8")
    opened, found = text.count("<!-- results"), len(_BLOCK.findall(text))
    if opened != found:
        raise BadFormatError(
            f"{page}: expected '<!-- results: NAME.json -->' and '<!-- end results -->' around each table, "
            f"got {opened} beginnings and {found} complete blocks"
        )

    def replace(match: re.Match[str]) -> str:
        path = root / FOLDER / match["name"]
        results = load_results(path)
        link = Path(os.path.relpath(path, page.parent)).as_posix()
        body = table(results, match["language"] or "en") if match["table"] else block(results, link)
        return f"{match['open']}{body}\n{match['close']}"

    return _BLOCK.sub(replace, text)


def outdated(root: Path) -> list[str]:
    """Pages whose tables differ from the result files, and result files that no page shows."""
    found = []
    used: set[str] = set()
    for name in PAGES:
        text = (root / name).read_text("utf-8")
        used |= {match["name"] for match in _BLOCK.finditer(text)}
        if rewritten(root / name, root) != text:
            found.append(f"{name} differs from the result files: run {COMMAND}")
    used |= {path.name for path in (root / FOLDER).glob(models_page.FILES)} | {quantization_page.FILE}
    unused = {path.name for path in (root / FOLDER).glob("*.json")} - used
    return found + [f"{FOLDER}/{name}: no page shows this file" for name in sorted(unused)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="performance_page",
        description=performance_page.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="fail when a page differs from the files")
    action.add_argument("--write", action="store_true", help="write the tables into the pages")
    action.add_argument("--record", type=Path, metavar="OUTPUT.json", help="output of a command with --json")
    parser.add_argument("-o", "--output", type=Path, help="result file that --record writes")
    parser.add_argument("--title", default="", help="title of the recorded result file")
    parser.add_argument("--command", action="append", default=[], help="command that measured it; repeatable")
    parser.add_argument("--root", type=Path, default=Path(), help="root of the repository; default: here")
    options = parser.parse_args(arguments)
    try:
        if options.record:
            if options.output is None:
                raise InvalidArgumentError("--record needs --output, the result file to write")
            text = options.record.read_text("utf-8")
            written = record(text, title=options.title, day=date.today(), commands=options.command)
            write_whole(options.output, written)
        elif options.write:
            for name in PAGES:
                write_whole(options.root / name, rewritten(options.root / name, options.root))
        elif found := outdated(options.root):
            print("\n".join(found), file=sys.stderr)
            return 1
    except (BinhdanError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
