"""Output constraints: JSON, a JSON schema, a regular expression, a grammar.

After each token llguidance computes the mask of tokens that may follow, and the sampler obeys it. The answer
is therefore valid by construction for any model, unless it ends early (max_tokens, a stop text).

    constraints = Constraints(model)                            # one per loaded model
    constraints.prepare()                                       # while loading
    constraint = constraints.compile(json_schema(schema))       # in a worker thread: ms, at most ~2 s
    model.chat(messages, mask=constraint.mask())                # one mask per answer

Specs come from users and may be hostile. This file bounds their size, grammar_trial.py the cost of
compilation, llguidance's limits the cost of a mask, and `_MASK_TIME` the cost of all masks of an answer.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, unquote

from binhdan.runtime.errors import InvalidArgumentError
from binhdan.runtime.prompting.tokenizer import Prompt
from binhdan.runtime.structured.answer_check import ENFORCED, AnswerCheck
from binhdan.runtime.structured.grammar_trial import TOO_MUCH, Grammar, GrammarTrial
from binhdan.runtime.structured.relax import closed, relaxed
from binhdan.runtime.structured.vocabulary import HasVocabulary, Vocabulary

if TYPE_CHECKING:
    from llguidance import LLMatcher

# Reasoning before the answer. "may": the model may write text between <think> and </think>. "must": the
# prompt has already opened the reasoning block.
Thinking = Literal["no", "may", "must"]

MAX_SCHEMA_BYTES = 1 << 17
MAX_SCHEMA_DEPTH = 64  # of JSON values
MAX_SCHEMA_VALUES = 20_000
MAX_PROPERTIES = 1_000  # of one object: compile time grows with the square
MAX_REGEX = 4_096  # characters
MAX_GRAMMAR = 1 << 15  # characters
# Maximum CPU time of all masks of one answer, in seconds: a constant part and a part per token. Typical masks
# take 20 to 100 µs per token.
_MASK_TIME = 0.5
_MASK_TIME_PER_TOKEN = 0.001

# One optional space after a comma or colon and no other whitespace: with free whitespace a small model may
# generate spaces without end.
_JSON = {"item_separator": ", ?", "key_separator": ": ?", "whitespace_flexible": False}
_MAX_INTEGER = 2**53 - 1
_URI = "%#/$:?@!&'()*+,;=~[]"  # reserved characters of a URI, and % for escapes
_BOUNDS = {"minimum": -1, "exclusiveMinimum": -1, "maximum": 1, "exclusiveMaximum": 1}
_DATA = ("const", "enum", "default", "examples")  # values, not schemas
# Without this, llguidance tokenizes forced text again at each step: up to a million characters.
_NO_FORCING = '%llguidance {"no_forcing": true}\n'
_NOTHING = b""
_GBNF_RULE = re.compile(r"^[ \t]*[\w-]+[ \t]*::=", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Fallback:
    """The grammar of a function's arguments if the grammar of their schema cannot be compiled."""

    grammar: Grammar
    function: str
    schema: Any


@dataclass(frozen=True, slots=True)
class Spec:
    """An output constraint before compilation, made by json_object, json_schema, regex and grammar.

    `grammars`: the first one is the answer's and may refer to the others as @name. `param`: the request field
    that holds the constraint; `params`: request fields of single grammars, by grammar name. `control`: the
    text of a control token that may precede the answer. `text_only`: the answer may not contain control
    tokens, even if a grammar allows them. `fallbacks`: by grammar name. `relaxed`: the paths of schema
    keywords that the grammars do not enforce. `check`: what complete answers must fit; None: any text.
    """

    grammars: tuple[Grammar, ...]
    param: str
    params: Mapping[str, str] = field(default_factory=dict)
    control: str = ""
    text_only: bool = False
    fallbacks: Mapping[str, Fallback] = field(default_factory=dict)
    relaxed: tuple[str, ...] = ()
    check: AnswerCheck | None = None


# ---- specs -------------------------------------------------------------------------------------------------


def json_object(param: str = "response_format") -> Spec:
    """Any JSON object."""
    grammar = {"name": "answer", "json_schema": {"type": "object", "x-guidance": _JSON}}
    return Spec((grammar,), param, check=AnswerCheck(ENFORCED))


def json_schema(
    schema: Any, param: str = "response_format.json_schema.schema", *, strict: bool = True
) -> Spec:
    """JSON that is valid under a JSON schema (draft 2020-12). Properties come in the schema's order. Integers
    without bounds are limited to ± (2^53 - 1), the exact integers of a double, which every JSON parser reads.
    Unless `strict`, keywords that llguidance cannot enforce are dropped, and listed in the spec, and objects
    have no members that their schema does not mention.

    Raises InvalidArgumentError for a schema that is too large or deep. `compile` raises it for keywords that
    llguidance cannot enforce.
    """
    if strict:
        return Spec((schema_grammar("answer", schema, param),), param, check=AnswerCheck(ENFORCED))
    schema_grammar("answer", schema, param)  # checks its size before further work
    enforced, dropped = relaxed(schema, param)
    grammar = schema_grammar("answer", closed(enforced), param, lenient=True)
    check = AnswerCheck(schema if dropped else ENFORCED)
    return Spec((grammar,), param, relaxed=tuple(dropped), check=check)


def schema_grammar(name: str, schema: Any, param: str, *, lenient: bool = False) -> Grammar:
    """A grammar for Spec. `lenient`: keywords that cannot be enforced are ignored instead of refused."""
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise invalid(f"JSON schema: expected an object, got {_json_type(schema)}", param)
    for values, (value, depth) in enumerate(_walk(schema)):
        if depth > MAX_SCHEMA_DEPTH:
            raise invalid(f"JSON schema: expected a depth of up to {MAX_SCHEMA_DEPTH}, got more", param)
        if values >= MAX_SCHEMA_VALUES:
            raise invalid(f"JSON schema: expected up to {MAX_SCHEMA_VALUES:,} values, got more", param)
        if isinstance(value, dict) and len(value) > MAX_PROPERTIES:
            raise invalid(
                f"JSON schema: expected objects of up to {MAX_PROPERTIES:,} members, got more", param
            )
    if len(_dump(schema, param)) > MAX_SCHEMA_BYTES:
        raise invalid(f"JSON schema: expected up to {MAX_SCHEMA_BYTES:,} bytes, got more", param)
    return {
        "name": name,
        "json_schema": _prepared(schema, param) | {"x-guidance": _JSON | {"lenient": lenient}},
    }


def regex(pattern: Any, param: str = "regex") -> Spec:
    r"""Text that a regular expression matches as a whole.

    The syntax is that of Rust's regex crate: Python's without look-around and back-references. \d matches 0
    to 9; \w matches letters of all scripts. Raises InvalidArgumentError.
    """
    import llguidance

    text = _text(pattern, MAX_REGEX, "regular expression", param)
    if (len(text) - len(text.rstrip("\\"))) % 2:
        raise invalid("regular expression: expected a character after the final backslash", param)
    lark = f"start: /{llguidance.regex_to_lark(text, 'd')}/"
    return Spec(({"name": "answer", "lark_grammar": lark},), param)


def grammar(text: Any, param: str = "grammar") -> Spec:
    """Text of a context-free grammar, in llguidance's Lark syntax with a rule `start`, or in llama.cpp's GBNF
    with a rule `root ::=`. Raises InvalidArgumentError."""
    text = _text(text, MAX_GRAMMAR, "grammar", param)
    kind = "gbnf" if _GBNF_RULE.search(text) else "lark_grammar"
    return Spec(({"name": "answer", kind: text},), param, text_only=True)


def choice(texts: Sequence[str], param: str = "choice") -> Spec:
    """One of some texts, exactly. Raises InvalidArgumentError."""
    if not texts:
        raise invalid("choice: expected at least one text, got none", param)
    for text in texts:
        _text(text, MAX_REGEX, "choice", param)
    if sum(map(len, texts)) > MAX_GRAMMAR:
        raise invalid(f"choice: expected up to {MAX_GRAMMAR:,} characters in total, got more", param)
    lark = "start: " + " | ".join(json.dumps(text, ensure_ascii=False) for text in texts)
    return Spec(({"name": "answer", "lark_grammar": lark},), param)


def parse_schema(schema: Any, param: str) -> Any:
    """A JSON schema from its JSON text; other values unchanged. Raises InvalidArgumentError."""
    if not isinstance(schema, str):
        return schema
    if len(schema) > MAX_SCHEMA_BYTES:
        raise invalid(f"JSON schema: expected up to {MAX_SCHEMA_BYTES:,} bytes, got more", param)
    try:
        return json.loads(schema)
    except (ValueError, RecursionError):
        raise invalid("JSON schema: expected a JSON object, or its text, got other text", param) from None


# ---- masks -------------------------------------------------------------------------------------------------


def thinking_of(prompt: Prompt) -> Thinking:
    """What an answer to `prompt` may contain before the constrained text."""
    if not prompt.thinks:
        return "no"
    return "must" if prompt.inside_thought else "may"


class Constraints:
    """Compiles specs for the vocabulary of a model. Thread-safe.

    `trial`: the process (20 MB) that compiles each spec first; several models may share it. None creates one.
    The model may be closed after `prepare` has returned.
    """

    def __init__(self, model: HasVocabulary, trial: GrammarTrial | None = None) -> None:
        self._model = model
        self._own_trial = trial is None
        self._trial = trial or GrammarTrial()
        self._lock = threading.Lock()
        self._made: Vocabulary | None = None

    def prepare(self) -> None:
        """Does the one-time work of the first `compile`. A vocabulary of 150,000 tokens takes 2 s on a server
        core, 1 s of it under the interpreter lock: call it while loading, not while an event loop runs."""
        self._vocabulary()
        self._trial.start()

    def compile(self, spec: Spec, thinking: Thinking = "no") -> Constraint:
        """Compiles a spec in milliseconds, a hostile one in up to about 2 s: call it in a worker thread.

        Raises InvalidArgumentError for a spec that is invalid, too complex or not supported; BusyError when
        too many compilations wait.
        """
        vocabulary = self._vocabulary()
        relaxed, check = list(spec.relaxed), spec.check
        # The trial process has a vocabulary of bytes, in which token 0 represents all control tokens.
        top = _top(spec, thinking, dict.fromkeys(vocabulary.controls, 0))
        result = self._trial.check([top, *spec.grammars])
        if isinstance(result, str) and spec.fallbacks:
            grammars = [spec.grammars[0]]
            for one in spec.grammars[1:]:
                name = one["name"]
                if name in spec.fallbacks and isinstance(self._check_alone(one), str):
                    relaxed.append(spec.params.get(name, name))
                    fallback = spec.fallbacks[name]
                    one = fallback.grammar
                    if check is not None:
                        check = replace(check, calls={**check.calls, fallback.function: fallback.schema})
                grammars.append(one)
            result = self._trial.check([top, *grammars])
        if isinstance(result, str):
            raise self._error(spec, result)
        return Constraint(
            vocabulary,
            [_top(spec, thinking, vocabulary.controls), *result[1:]],
            spec.text_only,
            tuple(relaxed),
            None if check is None else lambda text: check.fits(text, self._trial.fits),
        )

    def _check_alone(self, grammar: Grammar) -> list[Grammar] | str:
        """The result of the trial for one grammar of a spec."""
        top = {"name": "top", "lark_grammar": f"{_NO_FORCING}start: @{grammar['name']}"}
        return self._trial.check([top, grammar])

    def _error(self, spec: Spec, message: str) -> InvalidArgumentError:
        """The error of a spec, with the field of the grammar that caused it."""
        param = spec.param
        for one in spec.grammars[1:] if message != TOO_MUCH else ():
            result = self._check_alone(one)
            if isinstance(result, str) and one["name"] not in spec.fallbacks:
                message, param = result, spec.params.get(one["name"], param)
                break
        what = "JSON schema" if "json_schema" in spec.grammars[-1] else param
        return invalid(f"{what}: {_explain(message)}", param)

    def close(self) -> None:
        """Ends the trial process, unless it is shared."""
        if self._own_trial:
            self._trial.close()

    def _vocabulary(self) -> Vocabulary:
        with self._lock:
            if self._made is None:
                self._made = Vocabulary(self._model)
            return self._made


class Constraint:
    """A compiled spec. Creates one mask per answer. `relaxed`: the request fields, and the paths of schema
    keywords, that it does not enforce."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        grammars: list[Grammar],
        text_only: bool,
        relaxed: tuple[str, ...] = (),
        check: Callable[[str], bool] | None = None,
    ) -> None:
        self._vocabulary = vocabulary
        self._grammars = grammars
        self._text_only = text_only
        self.relaxed = relaxed
        self._check = check

    def mask(self) -> AnswerMask:
        """A mask for one answer. Its grammar is compiled at the first call, in the thread that starts the
        request."""
        from binhdan.runtime.structured.grammar_child import matcher

        vocabulary = self._vocabulary
        return AnswerMask(
            lambda: matcher(vocabulary.tokenizer, self._grammars), vocabulary, self._text_only, self._check
        )


class AnswerMask:
    """A TokenMask for one answer: call it with all tokens of the answer so far. `check`: returns whether a
    complete answer fits the parts of its schemas that the mask does not enforce; call it in a worker thread.

    Raises InvalidArgumentError when the masks take too much time or when no token can follow.
    """

    def __init__(
        self,
        start: Callable[[], LLMatcher],
        vocabulary: Vocabulary,
        text_only: bool,
        check: Callable[[str], bool] | None = None,
    ) -> None:
        self._start = start
        self.check = check
        self._vocabulary = vocabulary
        self._text_only = text_only
        self._matcher: LLMatcher | None = None
        self._seen = 0
        self._spent = 0.0  # seconds of CPU time

    def __call__(self, tokens: Sequence[int]) -> bytes:
        begin = time.thread_time()
        if self._matcher is None:
            self._matcher = self._start()
            begin = time.thread_time()  # compilation has its own limits
        matcher = self._matcher
        if len(tokens) > self._seen and not matcher.is_stopped():
            matcher.consume_tokens(list(tokens[self._seen :]))
        self._seen = len(tokens)
        bits = _NOTHING if matcher.is_stopped() else matcher.compute_bitmask()
        if matcher.is_error():  # its message may quote the answer: not shown
            why = (
                "no token can follow"
                if "NoExtension" in matcher.get_error()
                else "its constraint is too complex"
            )
            raise InvalidArgumentError(f"the answer cannot continue: {why}")
        self._spent += time.thread_time() - begin
        if self._spent > _MASK_TIME + _MASK_TIME_PER_TOKEN * len(tokens):
            raise InvalidArgumentError("the answer cannot continue: its constraint takes too much time")
        if bits is _NOTHING:
            return bits
        return self._vocabulary.only_text(bits) if self._text_only else bits[: self._vocabulary.mask_bytes]


# ---- grammars ----------------------------------------------------------------------------------------------


def _top(spec: Spec, thinking: Thinking, controls: dict[str, int]) -> Grammar:
    """The top grammar: the answer after an optional reasoning block or control token."""

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
    """The schema with references as URIs and with bounds for unbounded integers: a small model may generate
    digits without end.

    Bounds are valid at any place: no keyword of llguidance turns a narrower schema into a wider one.
    llguidance reads integers as doubles, which cannot represent integers beyond 2^53.
    """
    if isinstance(schema, list):
        return [_prepared(item, param) for item in schema]
    if not isinstance(schema, dict):
        return schema
    prepared: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("const", "enum", "multipleOf"):
            large = any(isinstance(item, int) and abs(item) > _MAX_INTEGER for item, _ in _walk(value))
        else:
            large = isinstance(value, int) and value * _BOUNDS.get(key, 0) < -_MAX_INTEGER
        if large:
            raise invalid(
                f"JSON schema: expected integers within ± (2^53 - 1), got a larger one at {key!r}", param
            )
        if key in _BOUNDS and isinstance(value, int):
            prepared[key] = max(-_MAX_INTEGER, min(_MAX_INTEGER, value))
        else:
            prepared[key] = value if key in _DATA else _prepared(value, param)
    if isinstance(schema.get("$ref"), str):  # clients write unescaped Vietnamese names
        prepared["$ref"] = quote(schema["$ref"], safe=_URI)
    types = schema.get("type")
    integer = types == "integer" or (isinstance(types, list) and "integer" in types and "number" not in types)
    if integer and not schema.keys() & {"const", "enum", "multipleOf"}:
        prepared.setdefault("minimum", -_MAX_INTEGER)
        prepared.setdefault("maximum", _MAX_INTEGER)
    return prepared


def _dump(schema: dict[str, Any], param: str) -> bytes:
    try:
        return json.dumps(schema, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise invalid("JSON schema: expected Unicode text, got a lone surrogate", param) from None
    except (TypeError, ValueError):
        raise invalid("JSON schema: expected JSON values only", param) from None


def _text(text: Any, max_characters: int, what: str, param: str) -> str:
    if not isinstance(text, str):
        raise invalid(f"{what}: expected a string, got {_json_type(text)}", param)
    if not text.strip():
        raise invalid(f"{what}: expected text, got an empty string", param)
    if len(text) > max_characters:
        raise invalid(f"{what}: expected up to {max_characters:,} characters, got {len(text):,}", param)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise invalid(f"{what}: expected Unicode text, got a lone surrogate", param) from None
    return text


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return names.get(type(value), "an object")


def _explain(message: str) -> str:
    """llguidance's message as a short sentence."""
    if message.startswith("panic"):
        return "llguidance cannot parse it"  # a fault in llguidance; the rest is a stack trace
    if "NoExtensionBias" in message:
        return "no token can follow"
    keywords = re.search(r"Unimplemented keys: \[(.*?)\]", message)
    if keywords:
        return f"unsupported keywords: {keywords[1]}"
    reason = re.search(
        r"^error: (.*)", message, re.MULTILINE
    )  # regular expressions: the text after the marked pattern
    if reason:
        return reason[1]
    message = re.split(r"<non-verbose/>|^ *\d+ \| ", message, maxsplit=1, flags=re.MULTILINE)[0]
    message = " ".join(message.split())
    if message.startswith("Pointer "):
        message = unquote(message)
    return message if len(message) <= 300 else message[:300] + "…"


def invalid(message: str, param: str) -> InvalidArgumentError:
    """The error of a constraint or tool. `param`: the request field."""
    return InvalidArgumentError(message, param=param)
