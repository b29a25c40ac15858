"""What an answer must look like: JSON, a JSON schema, a regular expression, a grammar.

llguidance computes, after each token, which tokens may come next; the sampler keeps to it. So the answer is
valid by construction, however small the model, unless it ends early (max_tokens, a stop text).

    constraints = Constraints(model)                            # one for a loaded model
    constraints.prepare()                                       # while loading
    constraint = constraints.compile(json_schema(schema))       # in a worker thread: ms, at most ~2 s
    model.chat(messages, mask=constraint.mask())                # one mask for each answer

Specs come from users and may be hostile: their size is bounded here, compiling them in grammar_trial.py, each
mask by llguidance's limits and all masks of an answer by `_MASK_TIME`.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, unquote

from binhdan.runtime.client.model import Model
from binhdan.runtime.errors import InvalidArgumentError
from binhdan.runtime.structured.grammar_trial import TOO_MUCH, Grammar, GrammarTrial

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

# May the model think before it answers? "may": between <think> and </think>, if it wants to; "must": the
# prompt has opened the thought already.
Thinking = Literal["no", "may", "must"]

MOST_SCHEMA_BYTES = 1 << 17
MOST_SCHEMA_DEPTH = 64  # of JSON values
MOST_SCHEMA_VALUES = 20_000
MOST_PROPERTIES = 1_000  # of one object: the time to compile grows with the square
MOST_REGEX = 4_096  # characters
MOST_GRAMMAR = 1 << 15  # characters
# Processor time that the masks of one answer may take, in seconds: some at once, and so much for each token.
# Usual are 20 to 100 µs a token.
_MASK_TIME = 0.5
_MASK_TIME_PER_TOKEN = 0.001

# A blank after a comma or colon, as most texts of JSON have it, and no other whitespace: a small model that
# is free to go on with blanks may never stop.
_JSON = {"item_separator": ", ?", "key_separator": ": ?", "whitespace_flexible": False}
_MOST_INTEGER = 2**53 - 1
_URI = "%#/$:?@!&'()*+,;=~[]"  # what means something in one, beside letters and digits
_BOUNDS = {"minimum": -1, "exclusiveMinimum": -1, "maximum": 1, "exclusiveMaximum": 1}
_DATA = ("const", "enum", "default", "examples")  # values, not schemas
# llguidance would tokenize what is certain anyway, again at each step: a million letters, if a user wants it.
_NO_FORCING = '%llguidance {"no_forcing": true}\n'
_NOTHING = bytes(4)
_GBNF_RULE = re.compile(r"^[ \t]*[\w-]+[ \t]*::=", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Spec:
    """What an answer must look like. json_object, json_schema, regex and grammar make one.

    `grammars`: the first is that of the answer and may refer to the others, as @name. `param`: the field of
    the request it comes from; `params`: those of single grammars, by their names. `control`: a control token,
    given as its text, that may stand before the answer. `text_only`: whatever the grammars say, the answer is
    made of text, not of control tokens.
    """

    grammars: tuple[Grammar, ...]
    param: str
    params: Mapping[str, str] = field(default_factory=dict)
    control: str = ""
    text_only: bool = False


# ---- specs -------------------------------------------------------------------------------------------------


def json_object(param: str = "response_format") -> Spec:
    """Any JSON object."""
    return Spec(({"name": "answer", "json_schema": {"type": "object", "x-guidance": _JSON}},), param)


def json_schema(schema: Any, param: str = "response_format.json_schema.schema") -> Spec:
    """JSON that is valid under a JSON schema (draft 2020-12). Properties come in the schema's order, integers
    without bounds are within those of a double, ± (2^53 - 1), which all readers of JSON understand.

    Raises InvalidArgumentError for a schema that is too large or deep. `compile` raises it for keywords that
    llguidance cannot enforce.
    """
    return Spec((schema_grammar("answer", schema, param),), param)


def schema_grammar(name: str, schema: Any, param: str, *, lenient: bool = False) -> Grammar:
    """A grammar for Spec. `lenient`: keywords that cannot be ensured are ignored instead of refused."""
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise _refusal(f"a JSON schema is an object, not {_json_type(schema)}", param)
    for values, (value, depth) in enumerate(_walk(schema)):
        if depth > MOST_SCHEMA_DEPTH:
            raise _refusal(f"the JSON schema is nested more than {MOST_SCHEMA_DEPTH} deep", param)
        if values >= MOST_SCHEMA_VALUES:
            raise _refusal(f"the JSON schema has more than {MOST_SCHEMA_VALUES:,} values", param)
        if isinstance(value, dict) and len(value) > MOST_PROPERTIES:
            raise _refusal(f"an object of the JSON schema has more than {MOST_PROPERTIES:,} members", param)
    if len(_dump(schema, param)) > MOST_SCHEMA_BYTES:
        raise _refusal(f"the JSON schema has more than {MOST_SCHEMA_BYTES:,} bytes", param)
    return {
        "name": name,
        "json_schema": _prepared(schema, param) | {"x-guidance": _JSON | {"lenient": lenient}},
    }


def regex(pattern: Any, param: str = "regex") -> Spec:
    r"""A text that a regular expression matches as a whole.

    The syntax is that of Rust's regex crate: Python's without look-around and back-references. \d is 0 to 9;
    \w has the letters of all scripts. Raises InvalidArgumentError.
    """
    import llguidance

    text = _text(pattern, MOST_REGEX, "regular expression", param)
    if (len(text) - len(text.rstrip("\\"))) % 2:
        raise _refusal("the regular expression ends in a backslash", param)
    lark = f"start: /{llguidance.regex_to_lark(text, 'd')}/"
    return Spec(({"name": "answer", "lark_grammar": lark},), param)


def grammar(text: Any, param: str = "grammar") -> Spec:
    """A text of a context-free language: a grammar in Lark's syntax as llguidance knows it, with a rule
    `start`, or in llama.cpp's GBNF, with a rule `root ::=`. Raises InvalidArgumentError."""
    text = _text(text, MOST_GRAMMAR, "grammar", param)
    kind = "gbnf" if _GBNF_RULE.search(text) else "lark_grammar"
    return Spec(({"name": "answer", kind: text},), param, text_only=True)


# ---- masks -------------------------------------------------------------------------------------------------


class Constraints:
    """Compiles specs for the vocabulary of a model; any number of threads may share it.

    `trial`: where specs are tried first, a process of 20 MB; several models may share it. None makes one.
    The model may be closed once `prepare` has returned.
    """

    def __init__(self, model: Model, trial: GrammarTrial | None = None) -> None:
        self._model = model
        self._own_trial = trial is None
        self._trial = trial or GrammarTrial()
        self._lock = threading.Lock()
        self._made: _Vocabulary | None = None

    def prepare(self) -> None:
        """Does now what the first `compile` would do. For 150,000 tokens that is 2 s on a server's core, one
        of them under the interpreter's lock: call it while loading, not beside a running event loop."""
        self._vocabulary()
        self._trial.start()

    def compile(self, spec: Spec, thinking: Thinking = "no") -> Constraint:
        """Takes milliseconds, for hostile specs up to about 2 s: call it in a worker thread.

        Raises InvalidArgumentError for a spec that is wrong, too complex or not supported, BusyError.
        """
        vocabulary = self._vocabulary()
        grammars = list(spec.grammars)
        # The process for trials has another vocabulary: token 0 stands for all control tokens there.
        result = self._trial.check([_top(spec, thinking, dict.fromkeys(vocabulary.controls, 0)), *grammars])
        if isinstance(result, str):
            raise self._refused(spec, result)
        return Constraint(
            vocabulary, [_top(spec, thinking, vocabulary.controls), *result[1:]], spec.text_only
        )

    def _refused(self, spec: Spec, message: str) -> InvalidArgumentError:
        """The error for a spec, or for the one of its grammars that is at fault."""
        param = spec.param
        for one in spec.grammars[1:] if message != TOO_MUCH else ():
            top = {"name": "top", "lark_grammar": f"{_NO_FORCING}start: @{one['name']}"}
            result = self._trial.check([top, one])
            if isinstance(result, str):
                message, param = result, spec.params.get(one["name"], param)
                break
        what = "the JSON schema" if "json_schema" in spec.grammars[-1] else f"the {param}"
        return _refusal(f"{what} is refused: {_explain(message)}", param)

    def close(self) -> None:
        """Ends the process for trials, unless it is shared."""
        if self._own_trial:
            self._trial.close()

    def _vocabulary(self) -> _Vocabulary:
        with self._lock:
            if self._made is None:
                self._made = _Vocabulary(self._model)
            return self._made


class Constraint:
    """A compiled spec. Makes a mask for each answer."""

    def __init__(self, vocabulary: _Vocabulary, grammars: list[Grammar], text_only: bool) -> None:
        self._vocabulary = vocabulary
        self._grammars = grammars
        self._text_only = text_only

    def mask(self) -> AnswerMask:
        """A mask for one answer. Its grammar is compiled at its first call, which Model's functions make in
        the thread that starts the request."""
        from binhdan.runtime.structured.grammar_child import matcher

        vocabulary = self._vocabulary
        return AnswerMask(lambda: matcher(vocabulary.tokenizer, self._grammars), vocabulary, self._text_only)


class AnswerMask:
    """A TokenMask for one answer: call it with the answer's tokens so far, which only ever grow.

    Raises InvalidArgumentError when the constraint costs too much or when no token can follow.
    """

    def __init__(self, start: Callable[[], LLMatcher], vocabulary: _Vocabulary, text_only: bool) -> None:
        self._start = start
        self._vocabulary = vocabulary
        self._text_only = text_only
        self._matcher: LLMatcher | None = None
        self._seen = 0
        self._spent = 0.0  # seconds of processor time

    def __call__(self, tokens: Sequence[int]) -> bytes:
        begin = time.thread_time()
        if self._matcher is None:
            self._matcher = self._start()
            begin = time.thread_time()  # compiling has limits of its own
        matcher = self._matcher
        if len(tokens) > self._seen and not matcher.is_stopped():
            matcher.consume_tokens(list(tokens[self._seen :]))
        self._seen = len(tokens)
        bits = _NOTHING if matcher.is_stopped() else matcher.compute_bitmask()
        if matcher.is_error():  # its message may quote the answer
            why = (
                "nothing can follow"
                if "NoExtension" in matcher.get_error()
                else "its constraint is too complex"
            )
            raise InvalidArgumentError(f"the answer cannot go on: {why}")
        self._spent += time.thread_time() - begin
        if self._spent > _MASK_TIME + _MASK_TIME_PER_TOKEN * len(tokens):
            raise InvalidArgumentError("the answer cannot go on: its constraint takes too much time")
        if bits is _NOTHING:
            return bits
        return self._vocabulary.only_text(bits) if self._text_only else bits[: self._vocabulary.mask_bytes]


class _Vocabulary:
    """llguidance's view of a model's tokens."""

    def __init__(self, model: Model) -> None:
        from llguidance import LLTokenizer, TokenizerWrapper

        roles = model.token_roles()
        tokens = token_bytes(model, len(roles))
        ends = [token for token, role in enumerate(roles) if role == 1]
        #: Control tokens that end no answer, by their text.
        self.controls = {
            tokens[token].decode("utf-8", "replace"): token for token, role in enumerate(roles) if role == 2
        }
        self.mask_bytes = (len(roles) + 31) // 32 * 4
        text = bytearray(self.mask_bytes)
        for token, role in enumerate(roles):
            if role != 2:
                text[token >> 3] |= 1 << (token & 7)
        self._text = int.from_bytes(text, "little")
        wrapper = TokenizerWrapper(_Tokens(tokens, ends, [token for token, role in enumerate(roles) if role]))
        self.tokenizer: LLTokenizer = LLTokenizer(wrapper, eos_token=ends or None)

    def only_text(self, bits: bytes) -> bytes:
        """Takes control tokens out of a mask; those that end the answer stay.

        Raises InvalidArgumentError when nothing is left.
        """
        kept = int.from_bytes(bits[: self.mask_bytes], "little") & self._text
        if not kept:
            raise InvalidArgumentError("the answer cannot go on: its grammar asks for control tokens")
        return kept.to_bytes(self.mask_bytes, "little")


def token_bytes(model: Model, count: int) -> list[bytes]:
    """The bytes that each token adds to a text; those of control tokens spell their names."""
    # SentencePiece takes the blank off a text's first token, so each comes second.
    first = model.tokenize("a")[-1]
    length = len(model.detokenize_bytes((first,)))
    return [model.detokenize_bytes((first, token), special=True)[length:] for token in range(count)]


class _Tokens:
    """What TokenizerWrapper wants."""

    def __init__(self, tokens: list[bytes], ends: list[int], special: list[int]) -> None:
        self.tokens = tokens
        self.special_token_ids = special
        self.eos_token_id = ends[0] if ends else None
        self.bos_token_id = None

    def __call__(self, text: bytes) -> list[int]:
        return []  # would be asked to tokenize what the grammar makes certain; _NO_FORCING forbids it


# ---- how ---------------------------------------------------------------------------------------------------


def _top(spec: Spec, thinking: Thinking, controls: dict[str, int]) -> Grammar:
    """The grammar around the answer's: a thought before it, or a control token."""

    def token(text: str) -> str:
        return f"<[{controls[text]}]>"

    thought, rules = "", ""
    if thinking != "no":
        opened = thinking == "must"
        if "</think>" in controls:
            begin = "" if opened else token("<think>") if "<think>" in controls else '"<think>"'
            rules = f"thought: {begin} THOUGHT {token('</think>')} BLANKS?\nTHOUGHT: /(?s:.*)/\n"
        else:
            begin = "" if opened else "<think>"
            rules = f"thought: thinking BLANKS?\nthinking[lazy]: /{begin}(?s:.*)<\\/think>/\n"
        thought = "thought" if opened else "thought?"
        rules += "BLANKS: /[ \\n]{1,3}/\n"
    control = f"{token(spec.control)}?" if spec.control in controls else ""
    lark = f"{_NO_FORCING}start: {thought} {control} @{spec.grammars[0]['name']}\n{rules}"
    return {"name": "top", "lark_grammar": lark}


def _walk(value: Any, depth: int = 1) -> Iterator[tuple[Any, int]]:
    """A JSON value and all in it, with their depths, a parent before its children."""
    stack = [(value, depth)]
    while stack:
        value, depth = stack.pop()
        yield value, depth
        if isinstance(value, dict):
            stack.extend((child, depth + 1) for child in value.values())
        elif isinstance(value, list):
            stack.extend((child, depth + 1) for child in value)


def _prepared(schema: Any, param: str) -> Any:
    """The schema with references as URIs, and with bounds for integers that have none: a small model may go
    on with digits for ever.

    Bounds are sound wherever they stand: no keyword that llguidance knows makes a narrower schema wider. It
    reads integers as doubles, so that those beyond 2^53 would become others.
    """
    if isinstance(schema, list):
        return [_prepared(item, param) for item in schema]
    if not isinstance(schema, dict):
        return schema
    prepared: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("const", "enum", "multipleOf"):
            large = any(isinstance(item, int) and abs(item) > _MOST_INTEGER for item, _ in _walk(value))
        else:
            large = isinstance(value, int) and value * _BOUNDS.get(key, 0) < -_MOST_INTEGER
        if large:
            raise _refusal(f"the JSON schema has an integer beyond ± (2^53 - 1), at {key!r}", param)
        if key in _BOUNDS and isinstance(value, int):
            prepared[key] = max(-_MOST_INTEGER, min(_MOST_INTEGER, value))
        else:
            prepared[key] = value if key in _DATA else _prepared(value, param)
    if isinstance(schema.get("$ref"), str):  # many write Vietnamese names in them as they are
        prepared["$ref"] = quote(schema["$ref"], safe=_URI)
    types = schema.get("type")
    integer = types == "integer" or (isinstance(types, list) and "integer" in types and "number" not in types)
    if integer and not schema.keys() & {"const", "enum", "multipleOf"}:
        prepared.setdefault("minimum", -_MOST_INTEGER)
        prepared.setdefault("maximum", _MOST_INTEGER)
    return prepared


def _dump(schema: dict[str, Any], param: str) -> bytes:
    try:
        return json.dumps(schema, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise _refusal("the JSON schema has a lone surrogate, which is no character", param) from None
    except (TypeError, ValueError):
        raise _refusal("the JSON schema has values that are not JSON", param) from None


def _text(text: Any, most: int, what: str, param: str) -> str:
    if not isinstance(text, str):
        raise _refusal(f"a {what} is a string, not {_json_type(text)}", param)
    if not text.strip():
        raise _refusal(f"the {what} is empty", param)
    if len(text) > most:
        raise _refusal(f"the {what} has {len(text):,} characters; at most {most:,} are allowed", param)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _refusal(f"the {what} has a lone surrogate, which is no character", param) from None
    return text


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return names.get(type(value), "an object")


def _explain(message: str) -> str:
    """llguidance's message as a short sentence."""
    if message.startswith("panic"):
        return "it is not understood"  # a fault of llguidance's; the rest is a stack trace
    if "NoExtensionBias" in message:
        return "nothing can follow"
    keywords = re.search(r"Unimplemented keys: \[(.*?)\]", message)
    if keywords:
        return f"unsupported keywords: {keywords[1]}"
    reason = re.search(r"^error: (.*)", message, re.MULTILINE)  # of a regular expression, after a drawing
    if reason:
        return reason[1]
    message = re.split(r"<non-verbose/>|^ *\d+ \| ", message, maxsplit=1, flags=re.MULTILINE)[0]
    message = " ".join(message.split())
    if message.startswith("Pointer "):
        message = unquote(message)
    return message if len(message) <= 300 else message[:300] + "…"


def _refusal(message: str, param: str) -> InvalidArgumentError:
    return InvalidArgumentError(message, param=param)
