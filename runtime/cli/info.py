"""`binhdan info`: to come with binhdan_inspect."""


def info(file: str) -> None:
    """Describe a GGUF file."""
