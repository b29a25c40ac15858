"""The version, from the installed package's metadata."""

from importlib import metadata


def version() -> str:
    """Such as "0.1.0"."""
    return metadata.version("binhdan")
