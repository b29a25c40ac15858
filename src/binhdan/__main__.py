"""The command `binhdan`, also as `python -m binhdan`."""

import importlib.util
from typing import NoReturn


def main() -> NoReturn:
    """Runs the command line of this process; without the extra `cli`, the small one."""
    if importlib.util.find_spec("typer") is None:
        from binhdan.runtime.cli.plain import run

        run()
    from binhdan.commands import main as run_commands

    run_commands()


if __name__ == "__main__":
    main()
