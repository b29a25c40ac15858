"""The Vietnamese texts of the suite: bench/suite/workloads/*.jsonl, or a file of the user.

Each user message of a conversation becomes one request. The messages before it are the request's prefix; the
assistant message after it is the reference answer, which sets the number of answer tokens.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from binhdan.bench.common.files import read_whole
from binhdan.runtime.errors import BadFormatError, InvalidArgumentError
from binhdan.runtime.prompting.chat import Message

WORKLOADS = Path(__file__).parent / "workloads"
# From the shortest prompts to the longest: the order of tables.
NAMES = ("short", "mixed", "diacritics", "tools", "chats", "documents")

_MAX_BYTES = 16 << 20
_MAX_ITEMS = 10_000

# Part of the system prompt: chat templates and servers without tool support get the same text.
_TOOLS = (
    "Bạn có các công cụ sau, mỗi dòng là một công cụ viết bằng JSON:\n{}\nKhi cần dùng công cụ, chỉ trả lời "
    "bằng một đối tượng JSON có hai khóa name và arguments, không viết gì thêm."
)


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Text(_Strict):
    """One message."""

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Field(min_length=1, max_length=100_000)]


class Tool(_Strict):
    """Same fields as `function` in OpenAI's API; `parameters` is a JSON schema."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]
    description: str
    parameters: dict[str, Any]


class Item(_Strict):
    """One conversation: an optional system prompt, then user and assistant messages in turns."""

    id: Annotated[str, Field(min_length=1, max_length=100)]
    messages: Annotated[tuple[Text, ...], Field(min_length=2, max_length=100)]
    tools: Annotated[tuple[Tool, ...], Field(max_length=20)] = ()

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}

    @model_validator(mode="after")
    def _is_a_conversation(self) -> Self:
        roles = [message.role for message in self.messages]
        turns = roles[1:] if roles[0] == "system" else roles
        if turns != ["user", "assistant"] * (len(turns) // 2) or not turns:
            raise ValueError(
                "expected an optional system prompt, then user and assistant in turns; "
                f"got the roles {', '.join(roles)[:200]}"
            )
        if any(not unicodedata.is_normalized("NFC", message.content) for message in self.messages):
            raise ValueError("expected text in Unicode normalization form NFC")
        return self


@dataclass(frozen=True, slots=True)
class Turn:
    """One request: the messages to send, and the reference answer."""

    item: str
    messages: tuple[Message, ...]
    answer: str

    @property
    def has_prefix(self) -> bool:
        """Whether messages precede the question."""
        return len(self.messages) > 1

    def cold(self, number: int) -> list[Message]:
        """Messages that no prefix cache contains: a unique number precedes the first message."""
        return [_numbered(self.messages[0], number), *self.messages[1:]]

    def warm(self, number: int) -> list[Message]:
        """Messages with a cached prefix and a new question: a unique number precedes the question."""
        return [*self.messages[:-1], _numbered(self.messages[-1], number)]


@dataclass(frozen=True, slots=True)
class TextWorkload:
    """Texts of one kind."""

    name: str
    items: tuple[Item, ...]
    sha256: str  # of the file

    @property
    def turns(self) -> list[Turn]:
        """All requests, in file order."""
        return [turn for item in self.items for turn in _turns(item)]


def load_workload(name_or_path: str | Path) -> TextWorkload:
    """One of NAMES, or a .jsonl file. Raises InvalidArgumentError, FileReadError, and BadFormatError with the
    line number."""
    text = str(name_or_path)
    path = WORKLOADS / f"{text}.jsonl" if text in NAMES else Path(name_or_path)
    if text not in NAMES and path.suffix != ".jsonl":
        raise InvalidArgumentError(
            f"no workload {text!r}: expected one of {', '.join(NAMES)}, or the path of a .jsonl file"
        )
    data = read_whole(path, _MAX_BYTES)
    lines = data.splitlines()
    if not 0 < len(lines) <= _MAX_ITEMS:
        raise BadFormatError(f"{path}: expected 1 to {_MAX_ITEMS:,} lines, got {len(lines):,}")
    items = tuple(_item(path, number, line) for number, line in enumerate(lines, 1))
    return TextWorkload(path.stem, items, hashlib.sha256(data).hexdigest())


def load_workloads(names: Sequence[str]) -> dict[str, TextWorkload]:
    """Workloads by name, in the order of `names`; a file's name is its stem. Raises BinhdanError."""
    loaded = [load_workload(name) for name in dict.fromkeys(names)]
    workloads = {workload.name: workload for workload in loaded}
    if len(workloads) < len(loaded):
        raise InvalidArgumentError(
            f"expected workloads with different names, got {', '.join(one.name for one in loaded)}: "
            "rename a file"
        )
    return workloads


def _item(path: Path, number: int, line: bytes) -> Item:
    try:
        return Item.model_validate(json.loads(line))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BadFormatError(f"{path}, line {number}: {where}: {first['msg']}".replace(": :", ":")) from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested too deeply
        raise BadFormatError(f"{path}, line {number}: {error}") from error


def _turns(item: Item) -> list[Turn]:
    messages: list[Message] = [{"role": one.role, "content": one.content} for one in item.messages]
    if item.tools:
        messages = _with_tools(messages, item.tools)
    return [
        Turn(item.id, tuple(messages[:place]), str(message["content"]))
        for place, message in enumerate(messages)
        if message["role"] == "assistant"
    ]


def _with_tools(messages: list[Message], tools: Sequence[Tool]) -> list[Message]:
    lines = "\n".join(json.dumps(tool.model_dump(), ensure_ascii=False) for tool in tools)
    text = _TOOLS.format(lines)
    if messages[0]["role"] == "system":
        return [{"role": "system", "content": f"{messages[0]['content']}\n\n{text}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def _numbered(message: Message, number: int) -> Message:
    return {**message, "content": f"({number:08}) {message['content']}"}
