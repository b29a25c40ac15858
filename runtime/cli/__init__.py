"""The commands, one per file, and commands.py, which runs them. binhdan/commands.py composes `binhdan`."""
