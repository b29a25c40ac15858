#!/usr/bin/env python3
"""Checks the direction of #include lines in csrc: a folder includes only itself and the folders below it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

CSRC = Path(__file__).parent.parent / "csrc"
# Each folder, with the folders that its files may include.
ALLOWED = {
    "base": set(),
    "gguf": {"base"},
    "kernels": {"base"},
    "encode": {"base", "kernels"},
    "ops": {"base", "kernels"},
    "text": {"base", "gguf", "kernels", "ops"},
    "model": {"base", "gguf", "kernels", "text", "ops"},
    "engine": {"base", "gguf", "kernels", "text", "ops", "model"},
    "api": {"base", "gguf", "kernels", "encode", "text", "ops", "model", "engine", "include"},
    "include": set(),
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def folder_of(included: str, file: Path) -> str:
    """The csrc folder of an included file; its path starts in csrc, csrc/include or the folder of `file`."""
    for base, name in ((CSRC, ""), (CSRC / "include", "include"), (file.parent, "")):
        if (base / included).is_file():
            return name or (base / included).resolve().relative_to(CSRC.resolve()).parts[0]
    return included.partition("/")[0]


def main() -> int:
    errors = []
    for file in sorted(path for path in CSRC.rglob("*") if path.suffix in {".c", ".cpp", ".h", ".inc"}):
        folder = file.relative_to(CSRC).parts[0]
        for match in INCLUDE.finditer(file.read_text("utf-8")):
            target = folder_of(match[1], file)
            if target != folder and target not in ALLOWED.get(folder, set()):
                allowed = ", ".join(sorted(ALLOWED.get(folder, set()))) or "no other folder"
                line = file.read_text("utf-8")[: match.start(1)].count("\n") + 1
                errors.append(
                    f"{file.relative_to(CSRC.parent)}:{line}: csrc/{folder} may include {allowed}; "
                    f'got "{match[1]}"'
                )
    print("\n".join(errors), end="\n" if errors else "")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
