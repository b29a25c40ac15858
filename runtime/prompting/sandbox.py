"""Jinja2 for the chat templates of model files, which may be hostile.

Jinja2's sandbox denies a template access to Python. It does not limit time or memory: a loop that doubles
five characters fifty times exhausts both. So each render has a budget (budget.py). The size of the template
bounds the cost of all operations that do not repeat or grow; loops and calls spend that size for each
iteration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jinja2 import Template, TemplateError, nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateRuntimeError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner
from jinja2.visitor import NodeTransformer

from binhdan.runtime.errors import BadFormatError, InvalidArgumentError
from binhdan.runtime.prompting import filters
from binhdan.runtime.prompting.budget import budget, length, spend, spend_all, spend_each
from binhdan.runtime.prompting.formats import format_text, percent_format

_MAX_TEMPLATE = 1 << 18  # characters; real templates have up to 30,000
_BASE_BUDGET = 1_000_000  # one or two seconds of work
_BUDGET_PER_CHARACTER = 100
_CALL = 10

_FILTERS = re.findall(
    r"\w+",
    """abs attr capitalize count d default e escape first float int items last length list lower map reject
    rejectattr reverse safe select selectattr title trim truncate upper wordcount""",
)
_COMPARING_FILTERS = ("dictsort", "groupby", "max", "min", "sort", "unique")
_STRING_METHODS = re.findall(
    r"\w+",
    """capitalize casefold center count endswith find format index isalnum isalpha isascii isdecimal isdigit
    isidentifier islower isnumeric isprintable isspace istitle isupper join ljust lower lstrip partition
    removeprefix removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith
    strip swapcase title upper zfill""",
)
_PADDING_METHODS = ("center", "ljust", "rjust", "zfill")


class _Refused(TemplateRuntimeError):
    """The template called raise_exception."""


def _refuse(message: object = "") -> None:
    raise _Refused(str(message))


@pass_context  # also prevents jinja2 from calling it at compile time
def _finalize(context: Context, value: Any) -> Any:
    spend_all(value)
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
        spend(_CALL)
        if isinstance(obj, Macro):
            spend(self._macro_costs.get(obj.name, self._template_cost))
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, str):
            if name not in _STRING_METHODS:
                raise SecurityError(f"str.{name} is not allowed")
            if name == "replace":
                return filters.replace(owner, *args)
            if name == "join":
                return filters.join(args[0], owner)
            if name == "format":
                return format_text(str(owner), args, kwargs)
            if name in _PADDING_METHODS:
                spend(max(0, int(args[0])))
            spend(len(owner))
        return super().call(context, obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> None:
        """Returns None, so that str.format reaches `call` unwrapped."""

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
        if operator == "%" and isinstance(left, str):
            return percent_format(str(left), right)
        if (operator == "%" and not numbers) or (operator == "**" and (not numbers or abs(right) > 16)):
            raise SecurityError(f"{operator} is not allowed here")
        if operator == "*" and not numbers:
            times = left if isinstance(left, int) else right
            spend((length(left) + length(right)) * max(0, times if isinstance(times, int) else 0))
        if numbers and max(abs(left), abs(right)) > 2**64:
            raise SecurityError("a number is too large")
        spend(length(left) + length(right))
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
    existing: dict[str, Any] = dict(environment.filters)
    environment.filters = (
        {name: filters.spending(existing[name]) for name in _FILTERS}
        | {name: filters.spending_all(existing[name]) for name in _COMPARING_FILTERS}
        | {
            "_concat": filters.concat,
            "_spend_each": spend_each,
            "_spend_length": filters.spend_length,
            "batch": filters.batch,
            "center": filters.center,
            "format": filters.format_filter,
            "indent": filters.indent,
            "join": filters.join,
            "pprint": filters.pprint,
            "replace": filters.replace,
            "round": filters.round_number,
            "slice": filters.slices,
            "string": filters.text,
            "sum": filters.total,
            "tojson": filters.to_json,
            "urlencode": filters.urlencode,
            "wordwrap": filters.wordwrap,
        }
    )
    environment.tests = {name: filters.spending(test) for name, test in environment.tests.items()}
    environment.globals = {
        "cycler": Cycler,
        "dict": dict,
        "joiner": Joiner,
        "namespace": environment.globals["namespace"],
        "raise_exception": _refuse,
        "range": filters.numbers,
        "strftime_now": filters.now,
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


def render_template(template: Template, variables: Mapping[str, Any], steps: int | None = None) -> str:
    """Renders a template with a budget proportional to the size of its variables, or of `steps`.

    Raises InvalidArgumentError if the template refuses the conversation (`raise_exception`), BadFormatError
    if it fails or exceeds the budget.
    """
    try:
        if steps is None:
            with budget(10**18):
                steps = _BASE_BUDGET + _BUDGET_PER_CHARACTER * spend_all(dict(variables))
        with budget(steps):
            return "".join(template.generate(variables))
    except _Refused as error:
        raise InvalidArgumentError(f"the model's chat template refuses this conversation: {error}") from error
    except RecursionError as error:
        raise BadFormatError("the model's chat template recurses too deeply") from error
    except Exception as error:  # a template is a program and may fail in any way
        raise BadFormatError(f"the model's chat template failed: {error}") from error
