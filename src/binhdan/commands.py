"""The command `binhdan`: the commands of runtime, bench and quantize.

The runtime does not depend on bench or quantize, so the command line is composed here, above them.
"""

from typing import NoReturn

from binhdan.runtime.cli.commands import RUNTIME_COMMANDS, Command, run

COMMANDS = (
    *RUNTIME_COMMANDS,
    Command("bench", "binhdan.bench.cli", "Measure the speed of models on this machine.", extra="bench"),
    Command(
        "quantize",
        "binhdan.quantize.cli",
        "Write a checkpoint or a GGUF file with smaller weights.",
        extra="quantize",
    ),
    Command(
        "calibrate",
        "binhdan.quantize.cli_calibrate",
        "Measure which weights matter, on texts.",
        extra="quantize",
    ),
    Command(
        "eval",
        "binhdan.quantize.cli_evaluate",
        "Measure how well a model predicts text, and how far it is from a reference.",
        extra="quantize",
    ),
)


def main() -> NoReturn:
    """Runs the command line of this process. Exit codes: see binhdan.runtime.cli.commands.run."""
    run(COMMANDS)
