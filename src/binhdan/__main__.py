"""`python -m binhdan` is the command `binhdan`."""

from binhdan.runtime.cli import main

main()
