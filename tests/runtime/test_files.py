"""Files of the package: in a folder, and in a zip archive."""

import os
import shutil
import subprocess
import sys
import zipapp
from pathlib import Path

import cffi
import jinja2
import markupsafe
import pytest

import binhdan
from binhdan.runtime.files import package_file

QUESTION = "them dau: ha noi la thu do cua viet nam"
ANSWER = "hà nội là thủ đô của việt nam"


def test_a_file_of_an_installed_package() -> None:
    header = package_file("include/binhdan.h")
    assert header is not None and "binhdan_model_open" in header.read_text()
    assert package_file("include/none.h") is None


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zipapp with the package binhdan, and cffi and Jinja from outside."""
    folder = tmp_path_factory.mktemp("zipapp")
    package = folder / "app" / "binhdan"
    for part in map(Path, binhdan.__path__):  # an editable install spreads the package over two folders
        shutil.copytree(part, package, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    zipapp.create_archive(folder / "app", folder / "app.pyz", main="binhdan.__main__:main")
    return folder / "app.pyz"


def ask(archive: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    # Without `site`, the finder of an editable install does not precede the archive.
    packages = {str(Path(module.__file__ or "").parents[1]) for module in (cffi, jinja2, markupsafe)}
    return subprocess.run(
        [sys.executable, "-S", "-X", "utf8", str(archive), "ask", QUESTION],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(packages)} | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        cwd=archive.parent,
    )


def test_a_zip_archive_answers_and_extracts_its_files_once(archive: Path, tmp_path: Path) -> None:
    first = ask(archive, XDG_CACHE_HOME=str(tmp_path))
    assert (first.returncode, first.stdout.strip(), first.stderr) == (0, ANSWER, "")
    extracted = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.name for path in extracted} >= {"binhdan.h", "restore-vi.bin"}
    assert ask(archive, XDG_CACHE_HOME=str(tmp_path)).stdout.strip() == ANSWER
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == extracted


def test_a_damaged_extracted_file_is_written_again(archive: Path, tmp_path: Path) -> None:
    ask(archive, XDG_CACHE_HOME=str(tmp_path))
    (model,) = tmp_path.rglob("restore-vi.bin")
    model.write_bytes(b"damaged")
    assert ask(archive, XDG_CACHE_HOME=str(tmp_path)).stdout.strip() == ANSWER


def test_a_folder_that_cannot_be_written_to_is_not_needed(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = ask(archive, XDG_CACHE_HOME=str(tmp_path / "file"), TMPDIR=str(temporary))
    assert (done.returncode, done.stdout.strip()) == (0, ANSWER)
    assert not any(temporary.iterdir())  # removed at exit
