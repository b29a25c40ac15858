"""The inner loops of the ARM kernels in llvm-mca: cycles of a static model, without caches and branches.

    python -m binhdan.bench.boards.loops BUILD --write bench/results/arm-loops.json

BUILD is a build with the preset aarch64. The assembly is that of its compiler and options. Each table is
analyzed on a core that llvm-mca has a model of; it has none of Cortex-A76, and Neoverse N1 is the server
variant of this core. The loop of prefill multiplies a tile of decoded blocks; the loop of decode decodes a
block of 16 rows x 32 columns and multiplies it with one row of activations.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from binhdan.bench.boards.predict import BLOCK_MACS
from binhdan.bench.common.results import write_results

# The numbers of the types in names of C++ symbols: csrc/base/dtype.h.
TYPES = {"Q4_0": 2, "Q8_0": 8, "Q4_K": 12, "Q6_K": 14}
_ITERATIONS = 200
_LABEL = re.compile(r"(\.L\w+):")
_SYMBOL = re.compile(r"(_Z\w+):")
_INSTRUCTION = re.compile(r"\t([a-z][\w.]*)\s?(.*)")
_BRANCH = re.compile(r"b\.?[a-z]*|cbn?z|tbn?z")
_CYCLES = re.compile(r"^Total Cycles: +(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Core:
    """A core of llvm-mca for a kernel table; products: multiply-adds of one instruction of 16 bytes."""

    isa: str
    cpu: str
    name: str
    products: dict[str, int]
    peak: int  # multiply-adds a cycle
    decodes: bool = True  # neon_i8mm decodes with the kernels of neon_dotprod


CORES = [
    Core("neon", "cortex-a72", "Cortex-A72", {"smull": 8, "smull2": 8, "smlal": 8, "smlal2": 8}, 8),
    Core("neon_dotprod", "neoverse-n1", "Neoverse N1", {"sdot": 16}, 32),
    Core("neon_i8mm", "cortex-a710", "Cortex-A710", {"smmla": 32}, 64, decodes=False),
]


@dataclass(frozen=True, slots=True)
class Loop:
    """An innermost loop: its instructions, and the multiply-adds of one pass."""

    instructions: list[str]
    macs: int


def innermost_loops(assembly: str, type_id: int, products: dict[str, int]) -> list[Loop]:
    """The innermost loops with products, of all functions of a tensor type, in the order of the assembly."""
    loops: list[Loop] = []
    lines: list[str] = []
    labels: dict[str, int] = {}
    of_type = False
    for line in assembly.splitlines():
        if symbol := _SYMBOL.match(line):
            of_type = f"DTypeE{type_id}E" in symbol[1]
            lines, labels = [], {}
        elif label := _LABEL.match(line):
            labels[label[1]] = len(lines)
        elif of_type and (found := _INSTRUCTION.match(line)):
            name, operands = found.groups()
            lines.append(f"{name} {operands}")
            start = labels.get(operands.split(",")[-1].strip()) if _BRANCH.fullmatch(name) else None
            if start is None:
                continue
            body = [one.split(" ", 1) for one in lines[start:-1]]
            macs = sum(products.get(instruction, 0) for instruction, _ in body)
            if macs and not any(_BRANCH.fullmatch(instruction) for instruction, _ in body):
                loops.append(Loop(lines[start:-1], macs))
    return loops


class Analyzer:
    """llvm-mca, and the compiler with the options of a build."""

    def __init__(self, build: Path, mca: str) -> None:
        self._build, self._mca = build, mca
        commands = json.loads(_run(["ninja", "-C", str(build), "-t", "compdb"]))
        self._commands = {command["file"]: command["command"] for command in commands}

    def assembly(self, isa: str) -> str:
        """The assembly of csrc/kernels/ISA/matmul.cpp."""
        words = self._command(f"csrc/kernels/{isa}/matmul.cpp")
        words[words.index("-o") + 1] = "-"
        words[words.index("-c")] = "-S"
        return _run(words, self._build)

    def compiler(self) -> str:
        """Its name and version."""
        return _run([self._command(".cpp")[0], "--version"]).splitlines()[0]

    def _command(self, end: str) -> list[str]:
        """That compiles the first file whose path ends with `end`, without ccache."""
        found = [command for file, command in self._commands.items() if file.endswith(end)]
        if not found:
            raise SystemExit(f"{self._build}: expected a build for aarch64, got none of {end}")
        words = shlex.split(found[0])
        return words[1:] if Path(words[0]).name == "ccache" else words

    def cycles(self, loop: Loop, core: Core) -> float:
        """Of one pass of the loop."""
        command = [self._mca, "-march=aarch64", f"-mcpu={core.cpu}", f"-iterations={_ITERATIONS}"]
        printed = _run(command, text="\n".join(loop.instructions) + "\n")
        return int(_CYCLES.findall(printed)[0]) / _ITERATIONS

    def row(self, loops: list[Loop], core: Core, type_name: str) -> dict[str, str | float]:
        """A row of the result file. Of the loops of a type, that of prefill has the most multiply-adds for
        each instruction, and that of decode the fewest of those that multiply one block."""
        prefill = max(loops, key=lambda loop: loop.macs / len(loop.instructions))
        rate = prefill.macs / self.cycles(prefill, core)
        row: dict[str, str | float] = {"isa": f"`{core.isa}`", "core": core.name, "type": type_name}
        row |= {"macs": round(rate, 1), "share": round(100 * rate / core.peak)}
        if core.decodes:
            of_a_block = [loop for loop in loops if loop.macs == BLOCK_MACS]
            decode = max(of_a_block, key=lambda loop: len(loop.instructions))
            row["decode_cycles"] = round(self.cycles(decode, core))
        return row


def _run(command: list[str], folder: Path | None = None, text: str | None = None) -> str:
    done = subprocess.run(command, cwd=folder, input=text, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)[:200]}: {done.stderr[-2000:]}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("--mca", default="llvm-mca-19")
    parser.add_argument("--write", type=Path, required=True)
    arguments = parser.parse_args()
    analyzer = Analyzer(arguments.build.resolve(), arguments.mca)
    rows = []
    for core in CORES:
        assembly = analyzer.assembly(core.isa)
        for name, type_id in TYPES.items():
            rows.append(analyzer.row(innermost_loops(assembly, type_id, core.products), core, name))
            print(rows[-1], flush=True)
    write_results(
        arguments.write,
        "loops",
        "Inner loops in llvm-mca",
        rows,
        conditions=["a static model: no caches, no branches"],
        versions={
            "llvm-mca": _run([arguments.mca, "--version"]).splitlines()[0],
            "compiler": analyzer.compiler(),
        },
        command=f"python -m binhdan.bench.boards.loops BUILD --write {arguments.write}",
    )


if __name__ == "__main__":
    main()
