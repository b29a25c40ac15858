"""Jinja2 for the chat templates of model files, which may be hostile.

Jinja2's sandbox denies a template access to Python. It does not limit time or memory: a loop that doubles
five characters fifty times exhausts both. So each render has a budget. Every operation that repeats or grows
(loops, calls, filters, concatenation, output) spends from it, and a render that exceeds it fails. The size of
the template bounds the cost of all other operations; loops and calls spend that size for each iteration.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime
from functools import wraps
from typing import Any

from jinja2 import Template, TemplateError, nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateRuntimeError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from binhdan.runtime.errors import BadFormatError, InvalidArgumentError

_MAX_TEMPLATE = 1 << 18  # characters; real templates have up to 30,000
_BASE_BUDGET = 1_000_000  # one or two seconds of work
_BUDGET_PER_CHARACTER = 100
_CALL = 10

_FILTERS = re.findall(
    r"\w+",
    """abs attr capitalize count d default dictsort e escape first float int items last length list lower map
    max min reject rejectattr reverse round safe select selectattr sort title trim unique upper wordcount""",
)
_STRING_METHODS = re.findall(
    r"\w+",
    """capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit isidentifier
    islower isnumeric isprintable isspace istitle isupper join lower lstrip partition removeprefix
    removesuffix replace rfind rindex rpartition rsplit rstrip split splitlines startswith strip swapcase
    title upper""",
)

_budget: ContextVar[list[int]] = ContextVar("_budget")


class _Refused(TemplateRuntimeError):
    """The template called raise_exception."""


def _spend(amount: int) -> None:
    budget = _budget.get()
    budget[0] -= amount
    if budget[0] < 0:
        raise SecurityError("it needs too much time or memory")


def _length(value: object) -> int:
    return len(value) if isinstance(value, (str, list, tuple, dict)) else 0


def _spend_all(value: object) -> int:
    """Spends the size of `value` when it is written out, and returns it. A shared node counts each time."""
    cost = 1 + (len(value) if isinstance(value, str) else 0)
    _spend(cost)
    if isinstance(value, Mapping):
        cost += sum(_spend_all(key) + _spend_all(item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        cost += sum(_spend_all(item) for item in value)
    return cost


def _spend_each(values: Iterable[Any], cost: int) -> Iterator[Any]:
    for value in values:
        _spend(cost)
        yield value


def _spend_length(value: Any) -> Any:
    _spend(_length(value))
    return value


def _concat(values: list[Any]) -> str:
    for value in values:
        _spend_all(value)
    return "".join(map(str, values))


def _spending(function: Any) -> Callable[..., Any]:
    """A filter or test that spends the size of its arguments and of its result."""

    @wraps(function)  # jinja2 stores flags in attributes of the function
    def spending(*args: Any, **kwargs: Any) -> Any:
        _spend(1 + sum(map(_length, args)))
        result = function(*args, **kwargs)
        _spend(_length(result))
        return result

    return spending


def _replace(text: Any, old: str, new: str, count: int = -1) -> str:
    whole, new = str(text), str(new)
    _spend(len(whole) + whole.count(str(old)) * len(new))
    return whole.replace(str(old), new, count)


def _join(values: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    items = list(_spend_each(values, 1))
    if attribute is not None:
        items = [item[attribute] for item in items]
    _spend(len(items) * len(separator))
    return separator.join(_text(item) for item in items)


def _indent(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    margin = width if isinstance(width, str) else " " * min(int(width), 64)
    lines = text.splitlines()
    _spend(len(text) + len(lines) * len(margin))
    for i, line in enumerate(lines):
        if (first or i > 0) and (blank or line):
            lines[i] = margin + line
    return "\n".join(lines)


def _text(value: Any) -> str:
    _spend_all(value)
    return str(value)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """tojson as in transformers: no escapes for non-ASCII characters or HTML."""
    cost = _spend_all(value)
    if indent is not None:
        indent = min(int(indent), 16)
        _spend(cost * indent)
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _range(*arguments: int) -> range:
    numbers = range(*arguments)
    _spend(len(numbers))
    return numbers


def _refuse(message: object = "") -> None:
    raise _Refused(str(message))


@pass_context  # also prevents jinja2 from calling it at compile time
def _finalize(context: Context, value: Any) -> Any:
    _spend_all(value)
    return value


class _GenerationTag(Extension):
    """{% generation %} marks the text that training uses. Inference ignores it."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        self._template_cost = _cost(source)
        self._macro_costs = {macro.name: _cost(macro) for macro in source.find_all(nodes.Macro)}
        return super()._generate(_CostInstrumenter().visit(source), *args, **kwargs)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        _spend(_CALL)
        if isinstance(obj, Macro):
            _spend(self._macro_costs.get(obj.name, self._template_cost))
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, str):
            if name not in _STRING_METHODS:
                raise SecurityError(f"str.{name} is not allowed")
            if name == "replace":
                return _replace(owner, *args)
            if name == "join":
                return _join(args[0], owner)
            _spend(len(owner))
        return super().call(context, obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> None:
        """Returns None, so that str.format reaches `call` unwrapped, which refuses it."""

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
        if (operator == "%" and not numbers) or (operator == "**" and (not numbers or abs(right) > 16)):
            raise SecurityError(f"{operator} is not allowed here")
        if operator == "*" and not numbers:
            times = left if isinstance(left, int) else right
            _spend((_length(left) + _length(right)) * max(0, times if isinstance(times, int) else 0))
        if numbers and max(abs(left), abs(right)) > 2**64:
            raise SecurityError("a number is too large")
        _spend(_length(left) + _length(right))
        return super().call_binop(context, operator, left, right)


def _cost(node: nodes.Node) -> int:
    """The literal text and the expressions of a node: a bound of its work without loops and calls."""
    literals = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
    return 1 + literals + sum(1 for _ in node.find_all(nodes.Expr))


class _CostInstrumenter(NodeTransformer):
    """Adds filters that spend where jinja2 has no hook: loops, comparisons, slices and `~`."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        if node.recursive:
            raise BadFormatError("the model's chat template uses a recursive loop, which is not supported")
        self.generic_visit(node)
        node.iter = _filter("_spend_each", node.iter, nodes.Const(_cost(node)))
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        self.generic_visit(node)
        node.expr = _filter("_spend_length", node.expr)
        for operand in node.ops:
            operand.expr = _filter("_spend_length", operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Getitem:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _filter("_spend_length", node.node)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        return _filter("_concat", nodes.List(node.nodes, lineno=node.lineno))


def _filter(name: str, node: nodes.Node, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


def _environment() -> _Environment:
    environment = _Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        optimized=False,  # constant expressions must also spend from the budget
        finalize=_finalize,
        extensions=[loopcontrols, _GenerationTag],
    )
    filters: dict[str, Any] = dict(environment.filters)
    environment.filters = {name: _spending(filters[name]) for name in _FILTERS} | {
        "_concat": _concat,
        "_spend_each": _spend_each,
        "_spend_length": _spend_length,
        "indent": _indent,
        "join": _join,
        "replace": _replace,
        "string": _text,
        "tojson": _to_json,
    }
    environment.tests = {name: _spending(environment.tests[name]) for name in environment.tests}
    environment.globals = {
        "dict": dict,
        "namespace": environment.globals["namespace"],
        "raise_exception": _refuse,
        "range": _range,
        "strftime_now": lambda pattern: datetime.now().strftime(pattern),
    }
    return environment


def compile_template(source: str) -> Template:
    """Compiles a chat template. Raises BadFormatError if it is invalid or too large."""
    if len(source) > _MAX_TEMPLATE:
        raise BadFormatError(
            f"the model's chat template has {len(source)} characters; the limit is {_MAX_TEMPLATE}"
        )
    try:
        return _environment().from_string(source)
    except TemplateError as error:
        raise BadFormatError(f"the model's chat template is broken: {error}") from error
    except (RecursionError, SyntaxError, MemoryError) as error:
        raise BadFormatError("the model's chat template is too deeply nested") from error


def render_template(template: Template, variables: Mapping[str, Any]) -> str:
    """Renders a template with a budget proportional to the size of its variables.

    Raises InvalidArgumentError if the template refuses the conversation (`raise_exception`), BadFormatError
    if it fails or exceeds the budget.
    """
    token = _budget.set([10**18])
    try:
        _budget.set([_BASE_BUDGET + _BUDGET_PER_CHARACTER * _spend_all(dict(variables))])
        return "".join(template.generate(variables))
    except _Refused as error:
        raise InvalidArgumentError(f"the model's chat template refuses this conversation: {error}") from error
    except RecursionError as error:
        raise BadFormatError("the model's chat template recurses too deeply") from error
    except Exception as error:  # a template is a program and may fail in any way
        raise BadFormatError(f"the model's chat template failed: {error}") from error
    finally:
        _budget.reset(token)
