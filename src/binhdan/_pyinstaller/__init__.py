"""PyInstaller finds the hook of this folder through the entry point `pyinstaller40`."""

from pathlib import Path


def hook_dirs() -> list[str]:
    return [str(Path(__file__).parent)]
