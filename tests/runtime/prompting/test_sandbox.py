"""runtime/prompting/sandbox.py: features of real templates work; hostile templates fail quickly."""

from __future__ import annotations

import time
from typing import Any

import pytest

import binhdan
from binhdan.runtime.prompting.sandbox import compile_template, render_template


def render(source: str, **variables: Any) -> str:
    return render_template(compile_template(source), variables)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ 'a' + 'b' ~ 1 }}", "ab1"),
        ("{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}", "012"),
        ("{% for i in [1, 2] %}{{ loop.index0 }}{{ ',' if not loop.last }}{% endfor %}", "0,1"),
        ("{{ messages[::-1] | map(attribute='a') | join(',') }}", "2,1"),
        ("{{ messages | selectattr('a', 'equalto', 1) | list | length }}", "1"),
        ("{{ messages | tojson }}", '[{"a": 1}, {"a": 2}]'),
        ("{{ {'x': 'ệ<b>&'} | tojson }}", '{"x": "ệ<b>&"}'),
        ("{{ [1] | tojson(indent=2) }}", "[\n  1\n]"),
        ("{{ ' a b'.strip().split(' ')[-1] }}", "b"),
        ("{{ 'aXbX' | replace('X', '-') }}{{ 'aXb'.replace('X', '') }}", "a-b-ab"),
        ("{{ 'x' if missing is defined else 'y' }}{{ missing }}", "y"),
        ("{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m('q') }}", "[q]"),
        (
            "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = m.a %}{% endfor %}{{ ns.n }}",
            "2",
        ),
        ("{% generation %}x{% endgeneration %}", "x"),
        ("{{ ('a\nb' | indent(2)) }}", "a\n  b"),
        ("a\n  {% if true %}\nb\n  {% endif %}\nc", "a\nb\nc"),  # trim_blocks, lstrip_blocks
        ("{{ 7 % 3 }}{{ 2 ** 3 }}{{ 'ab' in 'cab' }}", "18True"),
        ("{{ 'a' * 3 }}", "aaa"),
        ("{{ '{}: {:>4}|{0!r}|{x:.2f}'.format('a', 'b', x=1.5) }}", "a:    b|'a'|1.50"),
        ("{{ '{{}} {0}'.format([1, 'b']) }}", "{} [1, 'b']"),
        ("{{ '%s=%03d %5.1f%%' % ('a', 7, 2.25) }}", "a=007   2.2%"),
        ("{{ '%(a)s-%(b)r' % {'a': 1, 'b': 'x'} }}{{ '%s' % [1] }}", "1-'x'[1]"),
        ("{{ '%s, %s' | format('a', 'b') }}{{ '%(x)d' | format(x=3) }}", "a, b3"),
        (
            "{{ '7'.zfill(3) }}{{ 'a'.ljust(3) }}|{{ 'a'.rjust(3, '.') }}{{ 'a'.center(3) }}|",
            "007a  |..a a |",
        ),
        (
            "{{ [1, 2.5] | sum }}{{ messages | sum(attribute='a') }}{{ [[1], [2]] | sum(start=[]) }}",
            "3.53[1, 2]",
        ),
        ("{% for g, xs in messages | groupby('a') %}{{ g }}{{ xs | length }}{% endfor %}", "1121"),
        (
            "{{ [1, 2, 3] | batch(2, 0) | list }}{{ [1, 2, 3] | slice(2) | list }}",
            "[[1, 2], [3, 0]][[1, 2], [3]]",
        ),
        ("{{ 'a' | center(3) }}|{{ 'aa bb c' | wordwrap(3) }}", " a |aa\nbb\nc"),
        ("{{ 'một hai ba' | truncate(8, true, '...', 0) }}{{ 'một hai' | truncate(99) }}", "một h...một hai"),
        (
            "{{ {'b': [1], 'a': 'x'} | pprint }}{{ 'a b/ệ' | urlencode }}",
            "{'a': 'x', 'b': [1]}a%20b/%E1%BB%87",
        ),
        ("{% set j = joiner('|') %}{% for i in [1, 2] %}{{ j() }}{{ i }}{% endfor %}", "1|2"),
        ("{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}", "abab"),
        (
            "{{ 2.346 | round(2) }}{{ ['b', 'A'] | sort | join }}{{ [1, 1] | unique | join }}",
            "2.35Ab1",
        ),
    ],
)
def test_features_of_real_templates(source: str, expected: str) -> None:
    assert render(source, messages=[{"a": 1}, {"a": 2}]) == expected


def test_time() -> None:
    assert render("{{ strftime_now('%Y') }}") == time.strftime("%Y")


def test_raise_exception_is_an_invalid_argument() -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


def repeated(start: str, step: str, times: int = 60, end: str = "n.x") -> str:
    """A template that sets n.x to `step`, which may use n.x, `times` times, and then writes `end`."""
    loop = f"{{% for i in range({times}) %}}{{% set n.x = {step} %}}{{% endfor %}}"
    return f"{{% set n = namespace(x={start}) %}}{loop}{{{{ {end} }}}}"


HOSTILE = {
    "repeated string": "{{ 'a' * 10**12 }}",
    "nested ranges": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "doubling by ~": repeated("'aaaaa'", "n.x ~ n.x"),
    "doubling by +": repeated("[1]", "n.x + n.x"),
    "doubling by replace": repeated("'a'", "n.x.replace('a', 'aa')"),
    "shared lists": repeated("['a']", "[n.x, n.x]"),
    "growing number": repeated("9", "n.x * n.x"),
    "repeated search": repeated("range(90000) | list", "n.x if 'x' in n.x else n.x", 90000),
    "repeated sort": repeated("range(90000) | list", "n.x | sort", 90000),
    "block of text": "{% set x %}{% for i in range(99999) %}" + "a" * 9999 + "{% endfor %}{% endset %}",
    "macro": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "endless recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "padding": "{{ 'a'.ljust(10**9) }}",
    "zeros": "{{ '7'.zfill(10**9) }}",
    "format": "{{ '{:>1000000000}'.format(1) }}",
    "format of many fields": "{{ ('{:>1000}' * 99999).format(*range(99999)) }}",
    "format with Unicode digits": "{{ '{:>٩٩٩٩٩٩٩٩٩}'.format(1) }}",
    "format with a width from an argument": "{{ '{:>{}}'.format(1, 10**9) }}",
    "attribute of a format": "{{ '{0.__class__}'.format('') }}",
    "item of a format": "{{ '{0[a]}'.format(messages) }}",
    "attribute of a format with a name": "{{ '{x.__class__}'.format(x='') }}",
    "format_map": "{{ '{x.__class__}'.format_map({'x': 1}) }}",
    "format of markup": "{{ ('{0.__class__}' | safe).format('') }}",
    "format by map": "{{ ['%1000000000d'] | map('format', 1) | list }}",
    "format of a shared list": repeated("['a']", "[n.x, n.x]", 30, "'{}'.format(n.x)"),
    "percent format": "{{ '%1000000000d' % 1 }}",
    "precision": "{{ '%.1000000000f' % 1 }}",
    "width from an argument": "{{ '%*d' % (10**9, 1) }}",
    "too few values": "{{ '%s %s' % 'a' }}",
    "too many values": "{{ '%s' % ('a', 'b') }}",
    "invalid directive": "{{ '100% ệ' % 'a' }}",
    "center": "{{ 'a' | center(10**9) }}",
    "batch": "{{ [1] | batch(10**9, 'x') | list }}",
    "slice": "{{ [1] | slice(10**9) | list }}",
    "sum of lists": "{{ ([range(900) | list] * 900) | sum(start=[]) | sum }}",
    "wordwrap of a long word": "{{ ('a' * 90000) | wordwrap(1) }}",
    "wordwrap with a long separator": "{{ ('a ' * 9000) | wordwrap(1, true, 'b' * 9000) }}",
    "sort of shared texts": "{{ (['a' * 90000] * 90000) | sort | length }}",
    "groups of shared texts": "{{ ([{'a': 'b' * 90000}] * 90000) | groupby('a') | length }}",
    "pprint of a deep list": repeated("[]", "[n.x]", 800, "n.x | pprint"),
    "urlencode": "{{ ('ệ' * 400000) | urlencode }}",
    "digits": "{{ 1.5 | round(10**9, 'ceil') }}",
    "date": "{{ strftime_now('%A' * 99999) }}",
    "huge power": "{{ 2 ** 9999999999 }}",
    "access to python": "{{ ''.__class__.__mro__ }}",
    "modified list": "{{ messages.append(1) }}",
    "deep nesting": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "size": "a" * (1 << 20),
    "recursive loop": "{% for a in [[1]] recursive %}{{ loop(a) }}{% endfor %}",
    "syntax": "{% if %}",
    "include": "{% include '/etc/passwd' %}",
    "undefined": "{{ x.y.z }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(name: str) -> None:
    start = time.perf_counter()
    with pytest.raises(binhdan.BadFormatError, match="the model's chat template"):
        render(HOSTILE[name], messages=[])
    assert time.perf_counter() - start < 20  # generous, for slow machines


def test_the_budget_grows_with_the_conversation() -> None:
    messages = [{"role": "user", "content": "xin chào " * 100}] * 2000
    source = (
        "{% for m in messages %}{{ m.role ~ ': ' ~ m.content | trim }}{{ ',' if not loop.last }}{% endfor %}"
    )
    assert len(render(source, messages=messages)) > 1_700_000
