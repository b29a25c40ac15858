"""Collected inputs of matrices against the float64 oracle, and `binhdan calibrate`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import importance_golden as golden
import numpy as np
import numpy.typing as npt
import pytest
from reference_forward import ReferenceModel
from tiny_models import FAMILY_GOLDEN_SHAPES, GOLDEN_SHAPES, SMALL, write_gguf

from binhdan.quantize.calibrate import calibrate, calibration_windows, observe
from binhdan.quantize.importance import load_importance, read_importance
from binhdan.quantize.second_moments import read_second_moments, second_moments, write_second_moments
from binhdan.quantize.texts import make_windows, open_model, read_text
from binhdan.runtime.errors import BinhdanError

TEXT = "Trăm năm trong cõi người ta,\nchữ tài chữ mệnh khéo là ghét nhau. " * 3
CONTEXT = 50
# Matrices in float; keys and values are rounded to F16, and some tables compute in bfloat16.
TOLERANCE = 1e-2

SHAPES = {
    name: shape
    for name, shape in (GOLDEN_SHAPES | FAMILY_GOLDEN_SHAPES).items()
    if "moe" not in shape.architecture and not name.startswith("llama-l")
}


class RecordedMatrix(np.ndarray[Any, Any]):
    """A weight that reports what it is multiplied with. ``report`` is kept by views, such as .T."""

    report: Callable[[npt.NDArray[np.float64]], None] | None = None

    def __array_finalize__(self, source: Any) -> None:
        self.report = getattr(source, "report", None)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [np.asarray(value) for value in inputs]
        if ufunc is np.matmul and isinstance(inputs[1], RecordedMatrix) and inputs[1].report is not None:
            inputs[1].report(plain[0])
        return getattr(ufunc, method)(*plain, **options)


def oracle_inputs(file: Path, windows: Sequence[list[int]]) -> dict[str, npt.NDArray[np.float64]]:
    """Tensor → all rows that the oracle multiplies it with."""
    found: dict[str, list[npt.NDArray[np.float64]]] = {}
    model = ReferenceModel(file)
    for name, weight in model.weights.items():
        recorded = weight.view(RecordedMatrix)
        recorded.report = partial(lambda name, rows: found.setdefault(name, []).append(rows), name)
        model.weights[name] = recorded
    for window in windows:
        if model.config.architecture in ("bert", "gemma-embedding"):
            model.hidden(window)
        else:
            model.logits(window)
    return {name: np.concatenate(rows) for name, rows in found.items()}


def write_text(folder: Path, text: str = TEXT) -> Path:
    (folder / "text.txt").write_text(text, "utf-8")
    return folder / "text.txt"


def windows_of(file: Path) -> list[list[int]]:
    with open_model(file) as model:
        return make_windows(model, TEXT, CONTEXT)


@pytest.mark.parametrize("name", SHAPES)
def test_sums_are_those_of_the_oracle(name: str, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", SHAPES[name])
    importance = calibrate(file, [write_text(tmp_path)], context=CONTEXT, threads=2)
    expected = oracle_inputs(file, windows_of(file))
    assert importance.sums.keys() == expected.keys()
    assert len(expected) > 6
    for tensor, rows in expected.items():
        assert importance.counts[tensor] == len(rows), tensor
        sums = (rows**2).sum(axis=0)
        assert np.abs(importance.sums[tensor][0] - sums).sum() < TOLERANCE * sums.sum(), tensor


def test_sums_are_those_of_llama_cpp(tmp_path: Path) -> None:
    """Its file of the same model, text and windows; it drops the last, incomplete window."""
    expected = load_importance(golden.GOLDEN)
    found: dict[str, float | npt.NDArray[np.float32]] = {}

    def add(names: set[str], rows: npt.NDArray[np.float32]) -> None:
        for name in names:
            found[name] = found.get(name, 0.0) + (rows**2).sum(axis=0)

    with open_model(write_gguf(tmp_path / "model.gguf", golden.SHAPE)) as model:
        for window in make_windows(model, golden.TEXT, golden.CONTEXT)[: expected.chunks]:
            observe(model, window, 2, add)
    assert found.keys() - expected.sums.keys() == {"token_embd.weight"}  # the output matrix
    for name, sums in expected.sums.items():
        assert expected.counts[name] == expected.chunks * golden.CONTEXT
        assert np.abs(found[name] - sums[0]).sum() < TOLERANCE * sums.sum(), name


@pytest.mark.parametrize("name", ["llama", "gemma4", "qwen35", "phi3"])
@pytest.mark.parametrize("max_bytes", [1 << 30, 40_000])
def test_second_moments_are_those_of_the_oracle(name: str, max_bytes: int, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", SHAPES[name])
    steps: list[tuple[int, int]] = []
    moments = second_moments(
        file, [write_text(tmp_path)], context=CONTEXT, max_bytes=max_bytes,
        progress=lambda *step: steps.append(step),
    )  # fmt: skip
    size = write_second_moments(tmp_path / "moments", moments)
    read = read_second_moments(tmp_path / "moments")
    expected = oracle_inputs(file, windows_of(file))
    assert read.keys() == expected.keys()
    assert size == sum(moment.matrix.nbytes for moment in {id(m): m for m in read.values()}.values())
    for tensor, rows in expected.items():
        product = rows.T @ rows
        assert read[tensor].rows == len(rows)
        assert np.linalg.norm(read[tensor].matrix - product) < TOLERANCE * np.linalg.norm(product), tensor
    assert steps[-1] == (steps[-1][1], steps[-1][1])


def test_second_moments_of_some_tensors(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", SMALL)
    text = [write_text(tmp_path)]
    wanted = frozenset({"blk.0.attn_k.weight", "blk.1.ffn_down.weight"})
    found = list(second_moments(file, text, tensors=wanted))
    assert [moment.tensors for moment in found] == [("blk.0.attn_k.weight",), ("blk.1.ffn_down.weight",)]
    with pytest.raises(BinhdanError, match=r"has no matrix 'blk\.9\.attn_k\.weight'"):
        list(second_moments(file, text, tensors=frozenset({"blk.9.attn_k.weight"})))


def test_sums_do_not_depend_on_threads_or_isa(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", replace(SMALL, type="Q8_0"))
    text = [write_text(tmp_path)]
    one, three = (calibrate(file, text, threads=threads) for threads in (1, 3))
    for name, sums in one.sums.items():
        np.testing.assert_array_equal(sums, three.sums[name])


def test_every_window_begins_with_the_start_token(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", GOLDEN_SHAPES["llama-spm-tied"])
    with open_model(file) as model:
        plain = model.tokenize(TEXT)
        windows = make_windows(model, TEXT, CONTEXT)
        assert {window[0] for window in windows} == {model.info.bos}
        assert [token for window in windows for token in window][1:CONTEXT] == plain[: CONTEXT - 1]
        assert sum(map(len, windows)) == len(plain) + 1


def test_a_limit_spreads_the_windows(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", SMALL)
    with open_model(file) as model:
        every = calibration_windows(model, [write_text(tmp_path)], None, 16)
        some = calibration_windows(model, [write_text(tmp_path)], 64, 16)
    assert len(some) == 4
    assert some[0] == every[0] and some[-1] == every[-1]
    assert all(window in every for window in some)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got an empty file"),
        (b" \n\t", "got an empty file"),
        (b"ab\0cd", "NUL byte at byte 2"),
        ("được".encode("utf-16"), "expected text in UTF-8"),
        (b"abc \xff", "byte 0xff at byte 4"),
    ],
)
def test_refuses_files_that_are_not_text(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(BinhdanError, match=message):
        read_text(tmp_path / "text.txt")


def test_refuses_a_short_text(tmp_path: Path) -> None:
    with pytest.raises(BinhdanError, match="at least 32 tokens"):
        calibrate(write_gguf(tmp_path / "model.gguf", SMALL), [write_text(tmp_path, "xin chào")])


# ---- the command -------------------------------------------------------------------------------------------


def run(*arguments: str | Path) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "binhdan", "calibrate", *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    return result.returncode, result.stdout, result.stderr


def test_the_command_writes_an_importance_file(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", SMALL)
    code, out, errors = run(
        file, "--text", write_text(tmp_path), "--hessian", tmp_path / "moments", "--json", "--threads", "1"
    )
    assert (code, errors) == (0, "")
    summary = json.loads(out)
    assert summary["output"] == str(tmp_path / "model.importance.gguf")
    importance = read_importance(tmp_path / "model.importance.gguf")
    assert summary["tensors"] == len(importance) == len(read_second_moments(tmp_path / "moments"))
    assert run(file, "--text", write_text(tmp_path))[2].endswith("use --force to overwrite it\n")


def test_the_default_text_is_part_of_the_package(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", SMALL)
    code, out, errors = run(file, "-o", tmp_path / "a.gguf", "--tokens", "1000")
    assert (code, errors) == (0, "")
    assert "importance of 15 tensors" in out


def test_errors_of_the_command_take_one_line(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", SMALL)
    for arguments, message in (
        ([tmp_path / "none.gguf"], "none.gguf"),
        ([file, "--text", tmp_path / "none.txt"], "none.txt"),
        ([file, "-o", tmp_path / "none" / "a.gguf"], "expected an existing folder"),
        ([write_text(tmp_path)], "text.txt"),
    ):
        code, _, errors = run(*arguments)
        assert code == 1
        assert message in errors and errors.count("\n") == 1, errors
