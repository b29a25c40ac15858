"""Conversations: messages, and the chat template of a model file that turns them into a prompt.

Templates use the language of transformers' `apply_chat_template`. sandbox.py limits what a template can do.
guard.py prevents text of users from being read as markup.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Required, TypedDict

from binhdan.runtime.errors import BadFormatError, BinhdanError, InvalidArgumentError
from binhdan.runtime.prompting.guard import Guard, Segment

Role = Literal["system", "user", "assistant", "tool"]
_ROLES = ("system", "user", "assistant", "tool")
_PROBE_STEPS = 250_000  # each render of a template when it is compiled; real templates need 20,000


class Message(TypedDict, total=False):
    """One turn of a conversation. Further keys are passed to the template."""

    role: Required[Role]
    content: Required[str | None]
    reasoning_content: str
    name: str
    tool_calls: list[dict[str, Any]]
    tool_call_id: str


AnyMessage = Mapping[str, object]  # a Message, or a plain dict of the same form


def clean_text(text: str) -> str:
    """`text` in Unicode NFC, the form that models are trained on. Lone surrogates become U+FFFD."""
    if not text.isascii():
        # JSON may contain a character as two surrogates; join them.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return unicodedata.normalize("NFC", text)


def clean(value: Any, depth: int = 0) -> Any:
    """Applies `clean_text` to all strings in nested dicts and lists."""
    if depth > 64:
        raise InvalidArgumentError("a message must not be nested more than 64 levels deep")
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {clean(key, depth + 1): clean(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item, depth + 1) for item in value]
    return value


def check_messages(messages: Sequence[AnyMessage]) -> list[dict[str, Any]]:
    """Copies of the messages with clean text. Content in parts, [{"type": "text", "text": …}, …], becomes one
    text.

    Raises InvalidArgumentError for an empty conversation, an unknown role or content of a wrong type.
    """
    if not messages:
        raise InvalidArgumentError("a conversation needs at least one message")
    checked = []
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise InvalidArgumentError(
                f"message {i} is a {type(message).__name__}; expected a dict with role and content"
            )
        role, content = message.get("role"), _joined(message.get("content"), i)
        if role not in _ROLES:
            raise InvalidArgumentError(
                f"message {i} has the role {role!r}; expected one of {', '.join(_ROLES)}"
            )
        if not isinstance(content, str) and not (content is None and role == "assistant"):
            raise InvalidArgumentError(
                f"message {i} has content of type {type(content).__name__}; expected str"
            )
        # Templates concatenate contents; a turn that only calls tools has none.
        checked.append(dict(clean(message)) | {"content": clean_text(content or "")})
    return checked


def _joined(content: object, i: int) -> object:
    """The text of content in parts; other content as it is."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        text = part.get("text") if isinstance(part, Mapping) else None
        if not isinstance(text, str):
            raise InvalidArgumentError(
                f'message {i} has a content part without text; expected {{"type": "text", "text": …}}'
            )
        texts.append(text)
    return "".join(texts)


class ChatTemplate:
    """The chat template of a model file. Safe for any number of threads.

    `control_tokens`: the texts of all control tokens of the vocabulary. `special`: variables of the template
    such as bos_token and eos_token.
    """

    def __init__(self, source: str, control_tokens: Iterable[str], special: Mapping[str, str]) -> None:
        from binhdan.runtime.prompting.sandbox import compile_template

        self._template = compile_template(source)
        self._guard = Guard(control_tokens)
        self._special = dict(special)
        self._roles_with_parts = self._find_roles_with_parts()

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **variables: Any,
    ) -> list[Segment]:
        """The prompt in segments for binhdan_tokenize_segments.

        `variables` are further variables of the template, such as enable_thinking. Raises the exceptions of
        render_template, and BadFormatError if the template leaves out the text of a user.
        """
        from binhdan.runtime.prompting.sandbox import render_template

        # Roles are already checked, and templates compare them: they stay unmarked.
        protected = [self._guard.protect(message) | {"role": message["role"]} for message in messages]
        rendered = render_template(
            self._template,
            self._special
            | self._guard.protect(variables)
            | {
                "messages": self._with_parts(protected, self._roles_with_parts),
                "tools": self._guard.protect(tools) if tools else None,
                "add_generation_prompt": add_generation_prompt,
            },
        )
        segments = self._guard.split(rendered)
        _check_user_texts(messages, "".join(text for text, _ in segments))
        return segments

    # ---- content as a text or as parts ---------------------------------------------------------------------

    def _find_roles_with_parts(self) -> frozenset[str]:
        """The roles whose content must be a list of parts: the template leaves out a content that is a text.

        The messages of tools are like those of users.
        """
        roles: frozenset[str] = frozenset()
        for role in ("user", "system", "assistant"):
            with_role = roles | ({"user", "tool"} if role == "user" else {role})
            if not self._shows(role, roles) and self._shows(role, with_role):
                roles = with_role
        return roles

    def _shows(self, role: str, roles_with_parts: frozenset[str]) -> bool:
        """True if the text of a message of `role` is in the prompt."""
        from binhdan.runtime.prompting.sandbox import render_template

        # Digits, because templates change letters, spaces and symbols.
        other, text = "1", str(int.from_bytes(os.urandom(8)) + 10**19)
        before = [] if role == "user" else [{"role": role, "content": text}]
        messages = [*before, {"role": "user", "content": text if role == "user" else other}]
        if role == "assistant":
            messages.insert(0, {"role": "user", "content": other})
        variables = self._special | {
            "messages": self._with_parts(messages, roles_with_parts),
            "tools": None,
            "add_generation_prompt": True,
        }
        try:
            return text in render_template(self._template, variables, _PROBE_STEPS)
        except BinhdanError:  # for example, the template refuses system messages
            return False

    @staticmethod
    def _with_parts(messages: list[dict[str, Any]], roles: frozenset[str]) -> list[dict[str, Any]]:
        """The messages; a content of `roles` becomes a list of one part."""
        return [
            message | {"content": [{"type": "text", "text": message["content"]}]}
            if message["role"] in roles
            else message
            for message in messages
        ]


def _check_user_texts(messages: Sequence[Mapping[str, Any]], prompt: str) -> None:
    """Raises BadFormatError if `prompt` lacks the text of a user.

    Templates may trim a text or remove words such as `/think`, so half of the words are enough.
    """
    at = 0
    for i, message in enumerate(messages):
        if message["role"] != "user" or not (text := message["content"].strip()):
            continue
        found = prompt.find(text, at)
        if found >= 0:
            at = found + len(text)
            continue
        words, present = text.split(), set(prompt[at:].split())
        if 2 * sum(word in present for word in words) < len(words):
            raise BadFormatError(
                f"the model's chat template leaves out the text of message {i} (role user); "
                "use another file of this model, or complete() with a prompt of your own"
            )
