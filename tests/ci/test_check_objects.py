""".ci/check_objects.py: the symbols that an object file of an instruction set may define."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / ".ci" / "check_objects.py"
COMPILER = shutil.which("c++")

pytestmark = pytest.mark.skipif(
    COMPILER is None or shutil.which("nm") is None or not SCRIPT.exists(),
    reason="requires c++, nm and a clone of the repository",
)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_objects", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiled(folder: Path, source: str) -> Path:
    """The object file of `source`, at the path that CMake uses for a file of `folder`."""
    path = folder / "table.cpp"
    folder.mkdir(parents=True)
    path.write_text(source, "utf-8")
    output = folder / "table.cpp.o"
    subprocess.run([str(COMPILER), "-std=c++20", "-c", str(path), "-o", str(output)], check=True)
    return output


TABLE = "namespace binhdan { extern const int %s; constinit const int %s = 1; }"


@pytest.mark.parametrize(
    ("folder", "table", "clean"),
    [
        ("neon", "kNeonTable", True),
        ("neon_dotprod", "kNeonDotprodTable", True),
        ("neon_dotprod", "kNeon_dotprodTable", False),
        ("neon", "kNeonDotprodTable", False),
    ],
)
def test_a_folder_defines_its_table(
    script: ModuleType, folder: str, table: str, clean: bool, tmp_path: Path
) -> None:
    path = compiled(tmp_path / "kernels" / folder, TABLE % (table, table))
    match = script.OBJECT.search(path.as_posix())
    assert match and match[1] == folder
    found = script.faults(path, folder)
    assert not found if clean else len(found) == 1 and table in found[0] and "expected it in" in found[0]


def test_inline_functions_are_faults(script: ModuleType, tmp_path: Path) -> None:
    source = "inline int shared() { return 1; } namespace binhdan::neon { int own() { return shared(); } }"
    found = script.faults(compiled(tmp_path / "kernels" / "neon", source), "neon")
    assert len(found) == 1 and "weak or shared symbol" in found[0]
