"""examples/train_tiny_vi/: the mixture, the corpus, the configuration, rows of tokens."""

from __future__ import annotations

import json
import lzma
import os
import tomllib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from train_tiny_vi.config import Config, read_config
from train_tiny_vi.corpus import Document, read_documents
from train_tiny_vi.mixture import examples
from train_tiny_vi.rows import fill_rows
from train_tiny_vi.tasks.example import Example

CONFIG = Path(__file__).parents[3] / "examples" / "train_tiny_vi" / "config.toml"


@pytest.fixture(scope="module")
def config() -> Config:
    return read_config(CONFIG)


@pytest.fixture
def documents(text: str) -> list[Document]:
    return [Document("viwiki", "hà nội", text)] * 40


def test_the_configuration_supports_all_block_types(config: Config) -> None:
    model = config.model
    assert all(n % 256 == 0 for n in (model["hidden"], model["ffn"], model["heads"] * model["head_dim"]))
    assert model["context"] == 2048 and max(stage.context for stage in config.stages) == model["context"]
    tasks = {"restore", "spelling", "teencode", "extract", "words", "spaces", "rewrite"}
    assert set(config.mixture.segments) == tasks


def test_the_second_run_differs_in_stages_and_rates_only(config: Config) -> None:
    talk = read_config(CONFIG.with_name("config_talk.toml"))
    assert talk.model == config.model and talk.mixture == config.mixture
    assert [stage.talk for stage in talk.stages] == [12.0]
    assert talk.train.cooldown > config.train.cooldown and talk.train.muon_lr < config.train.muon_lr


def test_paths_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folders = (tmp_path / "a", tmp_path / "b")
    monkeypatch.setenv("BINHDAN_DATA", os.pathsep.join(map(str, folders)))
    config = read_config(CONFIG)
    assert config.data == folders and config.start is None
    with pytest.raises(FileNotFoundError, match=r"expected train\.jsonl or train\.jsonl\.xz"):
        config.documents("train")
    files = [folders[0] / "train.jsonl.xz", folders[1] / "train.jsonl"]
    for file in files:
        file.parent.mkdir()
        file.touch()
    assert config.documents("train") == files


def test_an_unknown_key_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.read_text().replace("[train]\n", "[train]\nspeed = 1\n"))
    assert tomllib.loads(path.read_text())["train"]["speed"] == 1
    with pytest.raises(TypeError, match="speed"):
        read_config(path)


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.xz"])
def test_documents(tmp_path: Path, name: str) -> None:
    line = json.dumps({"source": "viwiki", "title": "hà", "text": "Ho\u0302̀ [[Hà Nội|Thủ đô]] và [[Huế]]"})
    data = (line + "\n").encode()
    (tmp_path / name).write_bytes(lzma.compress(data) if name.endswith("xz") else data)
    (tmp_path / "b.jsonl").write_text('{"register": "news", "source": "x", "text": "Tin"}\n')
    assert list(read_documents([tmp_path / name, tmp_path / "b.jsonl"])) == [
        Document("viwiki", "hà", "Hồ Thủ đô và Huế"),
        Document("news", "", "Tin"),
    ]


@pytest.mark.parametrize(
    "line", ["{}", "[]", "x", '{"source": "a", "title": "b"}', '{"source": 1, "title": "", "text": ""}']
)
def test_invalid_documents_are_rejected(tmp_path: Path, line: str) -> None:
    (tmp_path / "d.jsonl").write_text('{"source": "a", "title": "b", "text": "c"}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"d\.jsonl: line 2"):
        list(read_documents([tmp_path / "d.jsonl"]))


def test_the_shares_of_the_mixture(config: Config, documents: list[Document]) -> None:
    mixture = replace(config.mixture, plain=0.25, registers={})
    kinds: Counter[str] = Counter()
    for seed in range(10):
        made = list(examples(documents, mixture, 400, 1.0, seed))
        kinds.update("plain" if isinstance(item, str) else "task" for item in made)
        assert made == list(examples(documents, mixture, 400, 1.0, seed))
    assert 60 < kinds["plain"] < 140  # a quarter of 400 documents
    answers = Counter(item.answer for item in made if isinstance(item, Example))
    assert answers["Hà Nội"] and answers["Lịch sử"]
    assert sum(isinstance(i, Example) for i in examples(documents, mixture, 400, 0.2, 1)) < len(made) / 3
    with pytest.raises(ValueError, match="got rhymes"):
        list(examples(documents, replace(mixture, segments={"rhymes": 1.0}), 400, 1.0, 1))


def test_sources_have_factors(config: Config, documents: list[Document]) -> None:
    made = {
        factor: len(
            list(examples(documents, replace(config.mixture, registers={"viwiki": factor}), 400, 0.5, 1))
        )
        for factor in (0.0, 0.5, 1.0, 4.0)
    }
    assert made[0.0] == 0 < made[0.5] < made[1.0] < made[4.0] / 3


def test_rows_contain_whole_items() -> None:
    rng = np.random.default_rng(1)
    items = []
    for i in range(300):
        length = int(rng.integers(2, 40))
        ids = np.full(length, i + 1, np.uint16)
        ids[-1] = 0
        items.append((ids, int(rng.integers(0, length - 1))))
    tokens, mask = fill_rows(items, 65)
    assert tokens.shape == mask.shape and tokens.shape[1] == 65
    masks = {}
    for row, kept in zip(tokens, mask, strict=True):
        for i in set(row.tolist()) - {0}:
            places = np.flatnonzero(row == i)
            assert len(places) == len(items[i - 1][0]) - 1 and (np.diff(places) == 1).all()
            span = slice(places[0], places[-1] + 2)
            masks[i] = kept[span].tolist()
    for i, (ids, skip) in enumerate(items, 1):
        # Questions and the first token of an item have no loss.
        assert masks.get(i, []) == [int(j >= max(skip, 1)) for j in range(len(ids))] or len(ids) == 1
    assert mask.sum() == sum(len(ids) - max(skip, 1) for ids, skip in items)
    assert sum(len(ids) for ids, _ in items) / tokens.size > 0.9
