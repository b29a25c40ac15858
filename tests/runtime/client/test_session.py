"""runtime/client/session.py on the embedded model."""

from __future__ import annotations

from pathlib import Path

import pytest

import binhdan

TEXT = "Sửa lỗi: " + "hom nay troi rat dep va chung toi di choi o ho guom. " * 8


def test_a_conversation_continues_in_another_engine(model: binhdan.Model, tmp_path: Path) -> None:
    file = tmp_path / "một.session"
    session = model.session(system="Trả lời ngắn.")
    session.ask(TEXT, max_tokens=40)
    with pytest.raises(binhdan.TooLargeError):
        session.ask("chữ " * 9000)
    assert len(session.messages) == 3
    session.save(file)
    expected = session.ask("Xin chào", max_tokens=20)

    with binhdan.load(threads=1) as other:
        loaded = other.load_session(file)
        assert loaded.messages == session.messages[:3]
        answer = loaded.ask("Xin chào", max_tokens=20)
        assert answer.text == expected.text and answer.cached_tokens >= 64
        loaded.save(file)  # replaces the file
        assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_stream(model: binhdan.Model) -> None:
    session = model.session()
    text = "".join(map(str, session.stream("them dau: ha noi")))
    assert session.messages == [
        {"role": "user", "content": "them dau: ha noi"},
        {"role": "assistant", "content": text},
    ]
    for _ in session.stream("xin chào"):
        break
    assert len(session.messages) == 2


def test_an_empty_session(model: binhdan.Model, tmp_path: Path) -> None:
    model.session().save(tmp_path / "a")
    assert model.load_session(tmp_path / "a").messages == []


def test_refused(model: binhdan.Model, tmp_path: Path) -> None:
    file = tmp_path / "a.session"
    session = model.session()
    session.ask(TEXT, max_tokens=4)
    session.save(file)
    whole = file.read_bytes()
    with (
        binhdan.load(threads=1, kv_type="q8_0") as other,
        pytest.raises(binhdan.UnsupportedError, match="another model"),
    ):
        other.load_session(file)
    with (
        binhdan.load(threads=1, prefix_cache=False) as other,
        pytest.raises(binhdan.InvalidArgumentError, match="prefix cache"),
    ):
        other.load_session(file)
    for place in (0, 9, 20, 30, 60, len(whole) // 2, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        file.write_bytes(damaged)
        with pytest.raises((binhdan.BadFormatError, binhdan.UnsupportedError, binhdan.TooLargeError)):
            model.load_session(file)
    for size in (0, 10, 48, 100, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(binhdan.BadFormatError):
            model.load_session(file)
    with pytest.raises(binhdan.ModelNotFoundError):
        model.load_session(tmp_path / "missing")
    with pytest.raises(binhdan.FileReadError, match="cannot write"):
        session.save(tmp_path / "missing" / "a")
