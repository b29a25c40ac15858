"""`python -m binhdan` runs the command `binhdan`."""

from binhdan.commands import main

main()
