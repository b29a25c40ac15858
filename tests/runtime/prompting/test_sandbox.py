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
    ],
)
def test_features_of_real_templates(source: str, expected: str) -> None:
    assert render(source, messages=[{"a": 1}, {"a": 2}]) == expected


def test_time() -> None:
    assert render("{{ strftime_now('%Y') }}") == time.strftime("%Y")


def test_raise_exception_is_an_invalid_argument() -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


def repeated(start: str, step: str, times: int = 60) -> str:
    """A template that sets n.x to `step`, which may use n.x, `times` times."""
    loop = f"{{% for i in range({times}) %}}{{% set n.x = {step} %}}{{% endfor %}}"
    return f"{{% set n = namespace(x={start}) %}}{loop}{{{{ n.x }}}}"


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
    "format": "{{ '{:>1000000000}'.format(1) }}",
    "percent format": "{{ '%1000000000d' % 1 }}",
    "center": "{{ 'a' | center(10**9) }}",
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
