"""Opening models: the vocabulary alone, a descriptor, memory, progress and its cancellation."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import binhdan

PROMPT = "them dau: ha noi la thu do cua viet nam"
ANSWER = "hà nội là thủ đô của việt nam"


def test_the_vocabulary_alone(model: binhdan.Model) -> None:
    messages = [{"role": "user", "content": PROMPT}]
    with binhdan.load_vocabulary() as vocabulary:
        assert vocabulary.tokenize(ANSWER) == model.tokenize(ANSWER)
        assert vocabulary.chat_tokens(messages) == model.chat_tokens(messages)
        assert vocabulary.detokenize(vocabulary.tokenize(ANSWER)) == ANSWER
        assert vocabulary.token_roles() == model.token_roles()
        assert "8,192 tokens" in repr(vocabulary)
        with pytest.raises(binhdan.InvalidArgumentError, match="opened with its weights"):
            vocabulary._library.create_engine(vocabulary._handle, binhdan.LoadOptions())


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="requires /dev/fd")
def test_a_descriptor_and_memory(model: binhdan.Model) -> None:
    fd = os.open(model.path, os.O_RDONLY)
    with binhdan.load(fd) as opened:
        os.close(fd)
        assert opened.ask(PROMPT).text == ANSWER
    if not hasattr(os, "memfd_create"):
        return
    fd = os.memfd_create("model")
    with open(fd, "wb", closefd=False) as memory:
        memory.write(model.path.read_bytes())
    with binhdan.load(fd) as opened:
        os.close(fd)
        assert opened.ask(PROMPT).text == ANSWER


def test_progress_and_cancellation() -> None:
    parts: list[float] = []
    with binhdan.load(threads=1, progress=parts.append) as model:
        assert model.ask(PROMPT).text == ANSWER
    assert parts == sorted(parts) and len(parts) > 3 and parts[-1] == 1

    def stop(done: float) -> None:
        if done > 0.2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        binhdan.load(threads=1, progress=stop)
