"""`binhdan quantize --fit`, with small random models."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from quantize_helpers import keys_of
from tiny_models import SMALL, write_checkpoint, write_gguf

from binhdan.quantize.convert import open_draft
from binhdan.quantize.fit.choose import Target, allowed_types, check_reachable, choose_fitted
from binhdan.quantize.fit.errors import measure_errors
from binhdan.quantize.fit.measure import open_study, spread_text
from binhdan.quantize.fit.run import quantize_measured
from binhdan.quantize.gguf_file import lay_out
from binhdan.quantize.recipes import parse_override
from binhdan.quantize.tensor_types import tensor_bytes
from binhdan.runtime.errors import BinhdanError, InvalidArgumentError

CHECKPOINT = Path(__file__).parents[3] / "examples/train_tiny_vi/checkpoint"
WIDE = replace(SMALL, width=256, feed_forward=256, heads=4, head_dim=64, layers=1)


def run(*arguments: str | Path) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "binhdan", "quantize", *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    return result.returncode, result.stdout, result.stderr


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("source") / "in", SMALL)


# ---- choosing ----------------------------------------------------------------------------------------------


def test_types_depend_on_the_length_of_rows(tmp_path: Path) -> None:
    wide = allowed_types(open_draft(write_checkpoint(tmp_path / "in", WIDE)), [])
    assert {"Q2_K", "Q3_K", "Q6_K"} < set(wide["blk.0.attn_q.weight"])
    small = allowed_types(open_draft(write_checkpoint(tmp_path / "small", SMALL)), [])
    assert small["blk.0.attn_q.weight"] == ["Q2_0", "MXFP4", "IQ4_NL", "Q5_0", "Q5_1", "Q8_0"]


def test_an_override_leaves_one_type(source: Path) -> None:
    draft = open_draft(source)
    types = allowed_types(draft, [parse_override("attn_v=q4_1")])
    assert types["blk.0.attn_v.weight"] == ["Q4_1"]
    assert len(types["blk.0.attn_q.weight"]) > 1
    with pytest.raises(InvalidArgumentError, match=r"rows of 64, which is not a multiple of 256"):
        allowed_types(draft, [parse_override("attn_v=q4_k")])


def test_the_size_of_the_file_is_the_limit(source: Path) -> None:
    draft = open_draft(source)
    types = allowed_types(draft, [])
    losses = {name: {kind: 1 / tensor_bytes(kind, (1, 256 * 32)) for kind in types[name]} for name in types}
    sizes = [
        lay_out(draft, {t.name: types.get(t.name, [t.type])[end] for t in draft.tensors}).size
        for end in (0, -1)
    ]
    for size in np.linspace(sizes[0] + 1, sizes[1], 9).astype(int):
        choice = choose_fitted(draft, types, losses, Target(size=int(size)))
        found = lay_out(draft, choice.types).size
        assert size - 2000 < found <= size
        assert choice.file_type is not None


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            Target(size=1000),
            r"--fit 1,000 bytes is too small for .*: .* has [\d,]+ bytes to [\d,.]+ (bytes|MB)",
        ),
        (Target(size=10**9), "--fit 1,000.0 MB is too large"),
        (Target(bpw=1.5), r"--bpw 1.5 is too small .* has \d\.\d\d bits per weight to \d\.\d\d bits"),
        (Target(bpw=30), "--bpw 30 is too large"),
    ],
)
def test_a_size_out_of_range_names_the_range(target: Target, message: str, source: Path) -> None:
    draft = open_draft(source)
    with pytest.raises(InvalidArgumentError, match=message):
        check_reachable(draft, allowed_types(draft, []), target)


@pytest.mark.parametrize("bits", [0, -1, float("nan"), float("inf"), 33])
def test_bits_per_weight_are_checked(bits: float) -> None:
    with pytest.raises(InvalidArgumentError, match="expected a number of bits per weight"):
        Target(bpw=bits)


# ---- measuring ---------------------------------------------------------------------------------------------


def test_errors_fall_with_bits_and_feedback(source: Path) -> None:
    draft = open_draft(source)
    tensor = next(t for t in draft.tensors if t.name == "blk.0.ffn_down.weight")
    rng = np.random.default_rng(0)
    mixed = np.triu(rng.standard_normal((tensor.columns, tensor.columns)) * 0.1 + np.eye(tensor.columns))
    factor = np.ascontiguousarray(mixed, np.float32)
    factor[np.diag_indices_from(factor)] = np.abs(factor.diagonal()) + 0.1
    errors = measure_errors(tensor, ("Q2_0", "IQ4_NL", "Q5_0", "Q8_0", "F16"), "IQ4_NL", factor)
    values = list(errors.types.values())
    assert values == sorted(values, reverse=True)
    assert errors.types["IQ4_NL"] <= errors.coarse < errors.size
    assert errors.feedback and "F16" not in errors.feedback
    plain = measure_errors(tensor, ("IQ4_NL",), "IQ4_NL", factor, feedback=False)
    assert plain.types["IQ4_NL"] == pytest.approx(plain.coarse)


def test_a_study_leaves_no_file_and_its_copies_as_they_were(source: Path, tmp_path: Path) -> None:
    draft = open_draft(source)
    types = allowed_types(draft, [])
    with open_study(draft, [write_text(tmp_path)], folder=tmp_path, bars=no_bars) as study:
        model = next(tmp_path.glob(".binhdan*/model.gguf"))
        before = model.read_bytes()
        found = study.losses(study.errors(types))
        assert model.read_bytes() == before
        assert found.keys() == types.keys()
        for by_type in found.values():
            losses = [by_type[kind] for kind in ("Q2_0", "IQ4_NL", "Q8_0")]
            assert losses == sorted(losses, reverse=True) and losses[0] > 0
        assert study.compare(model).kl_mean.value < 1e-6
    assert not list(tmp_path.glob(".binhdan*"))


def test_parts_of_a_text_are_from_all_over_it() -> None:
    text = "".join(f"{i:06} " for i in range(10000))
    part = spread_text(text, 1024)
    assert 4000 < len(part) < 6000
    assert "000000" in part and "007500" in part
    assert spread_text("short", 1024) == "short"


# ---- the command -------------------------------------------------------------------------------------------


def test_a_fitted_file_with_a_report(source: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "out.gguf", tmp_path / "report.html"
    options = ["--fit", "100kB", "--text", write_text(tmp_path), "--report", page, "--json"]
    code, text, errors = run(source, out, *options, "--name", "<b>&'\"", "--tensor-type", "attn_k=q8_0")
    assert (code, errors) == (0, "")
    summary = json.loads(text)
    assert out.stat().st_size == summary["bytes"] <= 100_000
    assert summary["bytes"] > 90_000
    assert len(summary["types"]) > 2
    assert summary["loss"].keys() == {"predicted", "calibration_text", "evaluation_text", "same_top"}
    html = page.read_text("utf-8")
    assert "&lt;b&gt;&amp;" in html and "<b>" not in html
    assert "attn_k: Q8_0" in html.replace("blk.0.", "").replace(".weight", "")
    assert_complete_and_alone(html)
    assert not list(tmp_path.glob(".binhdan*"))


def test_a_recipe_with_feedback_and_a_report(source: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "out.gguf", tmp_path / "report.html"
    common = ["--recipe", "q4_0", "--text", write_text(tmp_path), "--force"]
    assert run(source, out, "--recipe", "q4_0")[0] == 0
    plain = out.read_bytes()
    code, text, errors = run(source, out, *common, "--report", page)
    assert (code, errors) == (0, "")
    assert "KL divergence" in text and "predicted" in text
    assert_complete_and_alone(page.read_text("utf-8"))
    code, text, _ = run(source, out, *common, "--feedback")
    assert code == 0 and "KL divergence" not in text
    assert len(out.read_bytes()) == len(plain) and out.read_bytes() != plain


def test_a_pruned_model_is_fitted(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    text = write_text(tmp_path)
    code, output, errors = run(source, out, "--bpw", "5", "--keep-text", text, "--text", text, "--json")
    assert (code, errors) == (0, "")
    summary = json.loads(output)
    assert summary["vocabulary"] == len(keys_of(out)["tokenizer.ggml.tokens"]) < 320


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fit", "1kB"], "is too small for"),
        (["--fit", "5TB"], "expected a size such as 350MB"),
        (["--fit", "1MB", "--bpw", "4"], "--fit and --bpw: expected one of them"),
        (["--bpw", "4", "--recipe", "q4_0"], "--bpw and --recipe: expected one of them"),
        (["--bpw", "4", "--imatrix", "x"], "--imatrix: expected no importance file with --fit"),
        (["--text", "x"], "--text: expected --fit"),
        (["--bpw", "5", "--report", "none/report.html"], "expected an existing folder for report.html"),
        (["--bpw", "5", "--report", "out.gguf"], "expected another file than the model"),
    ],
)
def test_bad_options_take_one_line(
    options: list[str], message: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, errors = run(source, "out.gguf", *options)
    assert (code, errors.count("\n")) == (1, 1)
    assert message in errors
    assert not list(tmp_path.iterdir())


def test_an_encoder_is_an_error(tmp_path: Path) -> None:
    shape = replace(SMALL, architecture="bert", vocabulary="bert")
    source = write_gguf(tmp_path / "in.gguf", shape)
    with pytest.raises(BinhdanError, match="expected a model that generates text"):
        quantize_measured(source, tmp_path / "out.gguf", target=Target(bpw=8), texts=[write_text(tmp_path)])
    assert {path.name for path in tmp_path.iterdir()} == {"in.gguf", "text.txt"}


@pytest.mark.skipif(
    not (CHECKPOINT / "model.safetensors").exists(), reason="the weights are not in a source archive"
)
@pytest.mark.slow
def test_a_fit_of_the_embedded_model_loses_less_than_a_recipe(tmp_path: Path) -> None:
    recipe = quantize_measured(CHECKPOINT, tmp_path / "recipe.gguf", recipe="q4_k_m", losses=True)
    size = recipe.summary.bytes
    fit = quantize_measured(CHECKPOINT, tmp_path / "fit.gguf", target=Target(size=size))
    assert fit.summary.bytes <= size
    assert fit.checked and recipe.checked
    assert fit.checked.kl_mean.value < 0.7 * recipe.checked.kl_mean.value
    assert fit.measured and fit.predicted == pytest.approx(fit.measured.kl_mean.value, rel=0.5)


# ---- helpers -----------------------------------------------------------------------------------------------


@contextmanager
def no_bars(label: str) -> Iterator[Callable[[int, int], None]]:
    yield lambda done, total: None


def write_text(folder: Path) -> Path:
    path = folder / "text.txt"
    path.write_text("Trăm năm trong cõi người ta, chữ tài chữ mệnh khéo là ghét nhau. " * 20, "utf-8")
    return path


def assert_complete_and_alone(html: str) -> None:
    """Every tag is closed, and no other file is needed."""
    open_tags: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert not {name for name, _ in attrs} & {"src", "href"}
            if tag != "meta":
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Parser().feed(html)
    assert not open_tags
