"""Counts instructions per token on an emulated ARM processor, of binhdan and of llama.cpp.

    python -m binhdan.bench.boards.instructions --build BUILD --qemu QEMU --plugin LIBINSN \\
        --llama-bench ISA=PATH … -m MODEL.gguf … --write bench/results/arm-instructions.json

BUILD is a build with the preset aarch64. QEMU is a qemu-aarch64 with plugins, and LIBINSN the plugin
tests/plugin/insn.c of its sources, which Debian's packages do not contain (docs/performance.md says how to
build both). PATH is a llama-bench built for the processors of the kernel table ISA (`neon`, `neon_dotprod`,
`neon_i8mm`). The two programs run the same files with one thread. Each figure is the difference between two
runs of different length, divided by the tokens between them: loading cancels out. The counts are exact and
repeatable; they are not times.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from binhdan.bench.common.results import write_results

# The CPU model of qemu and the kernel table that it selects. Cortex cores have SVE vectors of 16 bytes.
CPUS = {"cortex-a72": "neon", "cortex-a76": "neon_dotprod", "max,sve-default-vector-length=16": "neon_i8mm"}
SHORT_PROMPT, LONG_PROMPT = 32, 96
SHORT_ANSWER, LONG_ANSWER = 4, 20
_COUNT = re.compile(r"insns: (\d+)")


@dataclass(frozen=True, kw_only=True)
class Count:
    """Instructions for each token; theirs are llama.cpp's, 0 if it was not measured."""

    model: str
    cpu: str
    isa: str
    prefill: float
    decode: float
    llama_prefill: float = 0.0
    llama_decode: float = 0.0
    bytes_per_token: int = 0
    file_bytes: int = 0

    @property
    def prefill_ratio(self) -> float:
        return self.prefill / self.llama_prefill if self.llama_prefill else 0.0

    @property
    def decode_ratio(self) -> float:
        return self.decode / self.llama_decode if self.llama_decode else 0.0


class Emulator:
    """Runs programs under qemu and counts their instructions."""

    def __init__(self, qemu: Path, plugin: Path, sysroot: Path, libraries: Path) -> None:
        self._qemu, self._plugin, self._sysroot, self._libraries = qemu, plugin, sysroot, libraries

    def run(self, cpu: str, command: list[str]) -> tuple[int, str]:
        """The instructions of the whole program, and what it printed."""
        with tempfile.NamedTemporaryFile("r") as log:
            options = ["-cpu", cpu, "-L", str(self._sysroot), "-E", f"LD_LIBRARY_PATH={self._libraries}"]
            options += ["-plugin", f"{self._plugin},inline=on", "-d", "plugin", "-D", log.name]
            done = subprocess.run([str(self._qemu), *options, *command], capture_output=True, text=True)
            if done.returncode != 0:
                raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
            found = _COUNT.findall(log.read())
        if not found:
            raise RuntimeError(f"expected a line 'insns: N' from {self._plugin}, got none")
        return int(found[-1]), done.stdout

    def version(self) -> str:
        done = subprocess.run([str(self._qemu), "--version"], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[0]

    def per_token(self, cpu: str, short: list[str], long: list[str], tokens: int) -> tuple[float, str]:
        first, _ = self.run(cpu, short)
        second, printed = self.run(cpu, long)
        return (second - first) / tokens, printed


def count_ours(emulator: Emulator, program: Path, model: Path, cpu: str) -> Count:
    def command(prompt: int, decode: int) -> list[str]:
        return [str(program), str(model), str(prompt), str(decode)]

    prompt, answer = LONG_PROMPT - SHORT_PROMPT, LONG_ANSWER - SHORT_ANSWER
    prefill, printed = emulator.per_token(cpu, command(SHORT_PROMPT, 0), command(LONG_PROMPT, 0), prompt)
    decode, _ = emulator.per_token(cpu, command(1, SHORT_ANSWER), command(1, LONG_ANSWER), answer)
    isa, weights = printed.split()
    return Count(
        model=model.name,
        cpu=cpu,
        isa=isa,
        prefill=prefill,
        decode=decode,
        bytes_per_token=int(weights),
        file_bytes=model.stat().st_size,
    )


def count_llama(emulator: Emulator, program: Path, model: Path, cpu: str) -> tuple[float, float]:
    def command(prompt: int, answer: int) -> list[str]:
        sizes = ["-p", str(prompt), "-n", str(answer)]
        return [str(program), "-m", str(model), "-t", "1", "-r", "1", "--no-warmup", "-lm", "none", *sizes]

    prompt, answer = LONG_PROMPT - SHORT_PROMPT, LONG_ANSWER - SHORT_ANSWER
    prefill, _ = emulator.per_token(cpu, command(SHORT_PROMPT, 0), command(LONG_PROMPT, 0), prompt)
    decode, _ = emulator.per_token(cpu, command(0, SHORT_ANSWER), command(0, LONG_ANSWER), answer)
    return prefill, decode


def build_program(build: Path, compiler: str) -> Path:
    """Compiles count.c with the library of the build."""
    here = Path(__file__).parent
    include = here.parent.parent / "csrc" / "include"
    program = build / "count"
    sources = [str(here / "count.c"), f"-I{include}", f"-L{build}", "-lbinhdan"]
    subprocess.run([compiler, "-std=c11", "-O2", *sources, "-o", str(program)], check=True)
    return program


def row(count: Count) -> dict[str, str | float]:
    """A row of the result file: millions of instructions for each token, and the ratios to llama.cpp's."""
    millions = {
        "prefill": count.prefill,
        "llama_prefill": count.llama_prefill,
        "decode": count.decode,
        "llama_decode": count.llama_decode,
    }
    figures: dict[str, float] = {name: round(value / 1e6, 1) for name, value in millions.items() if value}
    if count.llama_prefill:
        figures |= {
            "prefill_ratio": round(count.prefill_ratio, 2),
            "decode_ratio": round(count.decode_ratio, 2),
        }
    return {"file": Path(count.model).stem, "cpu": count.cpu.split(",")[0], "isa": f"`{count.isa}`"} | figures


def llama_programs(arguments: list[str]) -> dict[str, Path]:
    """ISA=PATH, by ISA."""
    programs = {}
    for argument in arguments:
        isa, equals, path = argument.partition("=")
        if not equals or isa not in CPUS.values():
            raise SystemExit(
                f"--llama-bench: expected ISA=PATH with one of {[*CPUS.values()]}, got {argument!r}"
            )
        programs[isa] = Path(path)
    return programs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--qemu", type=Path, required=True)
    parser.add_argument("--plugin", type=Path, required=True)
    parser.add_argument("--llama-bench", action="append", default=[], metavar="ISA=PATH")
    parser.add_argument("--llama-version", default="llama.cpp", help="for the file: its commit and compiler")
    parser.add_argument("--compiler", default="aarch64-linux-gnu-gcc")
    parser.add_argument("--sysroot", type=Path, default=Path("/usr/aarch64-linux-gnu"))
    parser.add_argument("--cpu", action="append", choices=[*CPUS])
    parser.add_argument("-m", "--model", type=Path, action="append", required=True)
    parser.add_argument("--write", type=Path, required=True)
    arguments = parser.parse_args()
    programs = llama_programs(arguments.llama_bench)
    program = build_program(arguments.build.resolve(), arguments.compiler)
    emulator = Emulator(arguments.qemu, arguments.plugin, arguments.sysroot, arguments.build.resolve())
    rows = []
    for model in arguments.model:
        for cpu in arguments.cpu or CPUS:
            count = count_ours(emulator, program, model, cpu)
            if count.isa != CPUS[cpu]:
                raise SystemExit(f"{cpu}: expected the table {CPUS[cpu]}, got {count.isa}")
            if theirs := programs.get(count.isa):
                place = Emulator(arguments.qemu, arguments.plugin, arguments.sysroot, theirs.parent)
                prefill, decode = count_llama(place, theirs, model, cpu)
                count = replace(count, llama_prefill=prefill, llama_decode=decode)
            rows.append(row(count))
            print(rows[-1], flush=True)
    compiler = subprocess.run([arguments.compiler, "--version"], capture_output=True, text=True, check=True)
    write_results(
        arguments.write,
        "instructions",
        "Instructions for each token on ARM",
        rows,
        conditions=[
            "millions of instructions for each token, counted under qemu-user with one thread",
            f"prefill: the difference between prompts of {LONG_PROMPT} and {SHORT_PROMPT} tokens; "
            f"decode: between answers of {LONG_ANSWER} and {SHORT_ANSWER} tokens",
        ],
        versions={
            "qemu": emulator.version(),
            "binhdan": compiler.stdout.splitlines()[0],
            "llama.cpp": arguments.llama_version,
        },
        command="python -m binhdan.bench.boards.instructions --build BUILD --qemu QEMU --plugin LIBINSN "
        f"--llama-bench ISA=PATH -m MODEL.gguf --write {arguments.write}",
    )


if __name__ == "__main__":
    main()
