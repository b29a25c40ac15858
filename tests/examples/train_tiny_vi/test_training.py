"""examples/train_tiny_vi/: train a tiny model, stop and resume it, export it, and run it with binhdan."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

for needed in ("torch", "tokenizers", "safetensors", "gguf"):
    pytest.importorskip(needed, reason=f"training requires {needed} (see the README of the recipe)")

# ruff: noqa: E402
import torch
from train_tiny_vi import generate, model, optimizer, tokenizer, train
from train_tiny_vi.checkpoints import load_run, load_weights
from train_tiny_vi.config import Config, read_config
from train_tiny_vi.corpus import Document
from train_tiny_vi.evaluate import MostFrequent, edits, f1, facts, syllable_hits, unseen_sentences
from train_tiny_vi.text import strip_marks

EXAMPLES = Path(__file__).parents[3] / "examples"
SHAPE = model.Shape(vocab=300, hidden=256, layers=2, heads=4, kv_heads=2, head_dim=64, ffn=256, context=128)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, text: str) -> Config:
    """The recipe with small sizes, and its data."""
    folder = tmp_path_factory.mktemp("recipe")
    documents = [{"source": "viwiki", "title": f"hà nội {i}", "text": text} for i in range(30)]
    for name in ("train", "valid"):
        lines = [json.dumps(d, ensure_ascii=False) for d in documents]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    spec = (EXAMPLES / "train_tiny_vi" / "config.toml").read_text(encoding="utf-8")
    for old, new in (
        ('data = ["../../../shared/data/vi", "../../../shared/data/vi-everyday"]', f'data = ["{folder}"]'),
        ('work = "work"', f'work = "{folder / "work"}"'),
        ("size = 8192", "size = 600"),
        ("layers = 8", "layers = 1"),
        ("ffn = 768", "ffn = 256"),
        ("tokens = 15_000_000", "tokens = 12_800"),
        ("tokens = 600_000", "tokens = 4_096"),
        ("tokens = 200_000", "tokens = 2_560"),
        ("batch = 8192", "batch = 1024"),
        ("micro_batch = 4096", "micro_batch = 512"),
        ("warmup = 60", "warmup = 2"),
    ):
        assert old in spec
        spec = spec.replace(old, new, 1)
    (folder / "config.toml").write_text(spec, encoding="utf-8")
    return read_config(folder / "config.toml")


def run(module: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"train_tiny_vi.{module}", *map(str, arguments)],
        cwd=EXAMPLES,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- the model ---------------------------------------------------------------------------------------------


@pytest.fixture
def tiny() -> model.TinyModel:
    torch.manual_seed(1)
    return model.TinyModel(SHAPE, torch.float32)


def test_logits_equal_those_of_transformers(tiny: model.TinyModel, tmp_path: Path) -> None:
    """The oracle is Qwen3 of transformers with the same weights."""
    transformers = pytest.importorskip("transformers", reason="requires transformers as the oracle")
    from train_tiny_vi.checkpoints import write_checkpoint

    write_checkpoint(tmp_path, tiny)
    oracle = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    load_weights(tiny, tmp_path)  # rounded to bfloat16, like those of the oracle
    tokens = torch.randint(1, SHAPE.vocab, (2, 50))
    with torch.no_grad():
        torch.testing.assert_close(tiny.logits(tiny(tokens)), oracle(tokens).logits, atol=1e-4, rtol=1e-4)


def test_loss_and_gradients_equal_those_of_torch(tiny: model.TinyModel) -> None:
    tokens = torch.randint(1, SHAPE.vocab, (3, 41))
    losses, grads = [], []
    for own in (True, False):
        hidden, targets = tiny(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()
        if own:
            loss = model.summed_loss(tiny, hidden, targets, rows=32)
        else:
            loss = torch.nn.functional.cross_entropy(tiny.logits(hidden), targets, reduction="sum")
        loss.backward()
        losses.append(loss.detach())
        grads.append([p.grad.clone() for p in tiny.parameters() if p.grad is not None])
        tiny.zero_grad()
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(grads[0], grads[1], atol=1e-3, rtol=1e-3)


def test_items_of_a_row_are_independent(tiny: model.TinyModel) -> None:
    first, second = torch.randint(1, SHAPE.vocab, (2, 20))
    end = torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        together = tiny(torch.cat((first, end, second))[None])[0, 21:]
        alone = tiny(second[None])[0]
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)  # positions are relative


def test_row_lengths_are_checked() -> None:
    with pytest.raises(ValueError, match="hidden: expected a multiple of 256, got 320"):
        model.Shape(300, 320, 2, 4, 2, 64, 256, 128)
    with pytest.raises(ValueError, match="multiple of 256"):
        model.Shape(300, 256, 2, 3, 1, 64, 256, 128)


def test_muon_makes_orthogonal_steps() -> None:
    torch.manual_seed(1)
    for shape in ((40, 90), (90, 40)):
        values = torch.linalg.svdvals(optimizer.orthogonalize(torch.randn(shape)).float())
        assert values.min() > 0.5 and values.max() < 1.3


def test_learning_rate_schedule() -> None:
    rates = [optimizer.rate(done, 100, done, warmup=10, cooldown=0.4) for done in range(101)]
    assert rates[0] == pytest.approx(0.1) and set(rates[10:60]) == {1.0}
    assert rates[80] == pytest.approx(0.5) and rates[100] == 0


# ---- answers -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def words(text: str) -> tokenizer.Tokenizer:
    return tokenizer.train_tokenizer([Document("viwiki", "hà nội", text)] * 20, 500)


def test_the_tokenizer(words: tokenizer.Tokenizer) -> None:
    assert [words.token_to_id(t) for t in tokenizer.CONTROL] == [0, 1, 2]
    line = "Hà Nội: 12.345 người, ZÊRÔ 二"
    ids = words.encode(line, add_special_tokens=False).ids
    assert words.decode(ids) == line
    assert ids == words.encode(unicodedata.normalize("NFD", line), add_special_tokens=False).ids
    assert (
        tokenizer.chat_ids(words, "x")[:1] == [1]
        and len(words.encode("123", add_special_tokens=False).ids) == 3
    )


def test_answers_do_not_depend_on_the_batch(words: tokenizer.Tokenizer, tiny: model.TinyModel) -> None:
    big = model.TinyModel(model.Shape(words.get_vocab_size(), 256, 2, 4, 2, 64, 256, 128), torch.float32)
    questions = ["Hà Nội", "Thêm dấu: ha noi la thu do", "x"]
    together = generate.answer(big, words, questions, max_tokens=12)
    assert together == [generate.answer(big, words, [q], max_tokens=12)[0] for q in questions]
    # Greedy decoding without a cache.
    ids = tokenizer.chat_ids(words, questions[1])
    tokens: list[int] = []
    for _ in range(12):
        with torch.no_grad():
            tokens.append(int(big.logits(big(torch.tensor([ids + tokens])))[0, -1].argmax()))
        if tokens[-1] in (0, 2):
            tokens.pop()
            break
    assert together[1] == words.decode(tokens)


@pytest.mark.parametrize("line", ["ha noi la thu do", "GIAI PHAP 12,5%: ẵm ý quỹ", "二里頭 ữ 😀 end", ""])
def test_constrained_answers_change_marks_only(words: tokenizer.Tokenizer, line: str) -> None:
    """The model has random weights, so only the constraint keeps the text."""
    big = model.TinyModel(model.Shape(words.get_vocab_size(), 256, 1, 4, 2, 64, 256, 256), torch.float32)
    marks = generate.MarksOnly(words)
    (restored,) = generate.answer(big, words, [line], allowed=[marks.rule(line)])
    assert strip_marks(restored) == strip_marks(line)


# ---- figures -----------------------------------------------------------------------------------------------


def test_metrics() -> None:
    assert syllable_hits("hòa bình ở", "hoà bình ở 12") == (3, 3)
    assert syllable_hits("hoa bình", "hòa bình") == (1, 2)
    assert syllable_hits("một hai bốn", "một hai ba bốn") == (3, 4)
    assert edits("tôi đi hoc", "tôi đi học") == {(2, 3, "học")} and edits("a b", "a b") == set()
    assert f1([({1, 2}, {2, 3}), (set(), set())]) == 0.5 and f1([]) == 1.0
    assert facts('{"ngày": ["1945"], "số": []}') == {("ngày", "1945")}
    assert facts("[]") is None and facts('{"a": 1}') is None and facts("{") is None
    baseline = MostFrequent([Document("x", "x", "hà hà hạ Nội nội")])
    assert baseline.restore("Ha noi HA xyz") == "Hà nội HÀ xyz"


def test_unseen_sentences_are_deterministic(text: str) -> None:
    documents = [Document("viwiki", "a", text)]
    found = unseen_sentences(documents, 3)
    assert found == unseen_sentences(documents, 3) and all(30 <= len(s) <= 200 for s in found)


# ---- end to end --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_from_text_to_answer(config: Config, tmp_path: Path) -> None:
    """The commands of the README: train, stop and resume, export, convert, answer, evaluate."""
    import binhdan

    spec = config.work.parent / "config.toml"
    run("tokenizer", spec)
    assert "stage 1" in run("pack", spec)
    rows = train.Rows(config, 0)
    taken, mask = rows.batch(len(rows) - 1, 3)  # crosses the end of an epoch
    assert taken.shape == mask.shape == (3, 257)
    assert np.array_equal(taken.numpy()[0], train.Rows(config, 0).batch(len(rows) - 1, 1)[0].numpy()[0])

    saved = config.work / "run.pt"
    assert "done" in run("train", spec, "--no-compile")
    whole = saved.rename(tmp_path / "whole.pt")

    # A run that is stopped after each of its first steps has the same weights.
    device = torch.device("cpu")
    torch.set_num_threads(1)
    for step in range(3):
        part = train.Run(config, device)
        assert part.step == step
        signal_in_next_step(part)
        part.train()
    assert "done" in run("train", spec, "--no-compile")
    torch.testing.assert_close(load_run(saved)["model"], load_run(whole)["model"])

    folder = tmp_path / "checkpoint"
    run("export", spec, folder)
    gguf = tmp_path / "tiny.gguf"
    subprocess.run(
        [sys.executable, "-m", "binhdan", "quantize", folder, gguf, "--type", "f32"], check=True, timeout=120
    )
    words = tokenizer.load_tokenizer(config.tokenizer)
    trained = train.build(config, device)
    load_weights(trained, folder)
    again = train.build(config, device)
    load_weights(again, gguf)
    torch.testing.assert_close(again.state_dict(), trained.state_dict(), rtol=0, atol=0)
    trained.dtype = torch.float32
    question = "Thêm dấu: ha noi la thu do cua nuoc viet nam"
    with binhdan.load(gguf, threads=1) as runtime:
        assert runtime.tokenize(question) == words.encode(question, add_special_tokens=False).ids
        answer = runtime.ask(question, max_tokens=10).text
    assert answer == generate.answer(trained, words, [question], max_tokens=10)[0]
    table = run("evaluate", spec, folder, "--count", 6)
    figures = json.loads(table.splitlines()[-1])
    assert figures["syllables, constrained"] >= 0.2 and 0 <= figures["JSON valid"] <= 1
    assert figures["syllables, most frequent form"] > 0.8 and figures["bits per byte"] < 8


def signal_in_next_step(part: train.Run) -> None:
    """Raises SIGTERM during the next step; the run finishes the step and saves its state."""
    set_rate = part.set_rate

    def interrupted(factor: float) -> None:
        set_rate(factor)
        signal.raise_signal(signal.SIGTERM)

    part.set_rate = interrupted  # type: ignore[method-assign]
