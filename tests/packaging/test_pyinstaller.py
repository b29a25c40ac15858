"""A program of one file that PyInstaller makes, with the hook of the package."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("PyInstaller", reason="no PyInstaller: pip install 'binhdan[full]'")

PROGRAM = """
import sys
import binhdan

print(binhdan.restore("Ha Noi la thu do cua Viet Nam."))
with binhdan.load() as model:
    print(model.ask("Xin chào"))
"""


@pytest.mark.slow
def test_a_program_of_one_file_restores_and_answers(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(PROGRAM, encoding="utf-8")
    build = [sys.executable, "-m", "PyInstaller", "--onefile", "--log-level=ERROR", "app.py"]
    subprocess.run(build, cwd=tmp_path, check=True, timeout=600)
    program = tmp_path / "dist" / ("app.exe" if os.name == "nt" else "app")
    moved = program.rename(tmp_path / program.name)  # needs nothing of the folder that it was built in
    done = subprocess.run(
        [moved], env={"HOME": str(tmp_path), "PYTHONUTF8": "1"}, capture_output=True, timeout=120, check=True
    )
    restored, answer = done.stdout.decode("utf-8").splitlines()
    assert restored == "Hà Nội là thủ đô của Việt Nam."
    assert answer.startswith("Xin chào")
