"""The trial process of grammar_trial.py: reads grammars from stdin and writes results to stdout.

It runs as a script and imports llguidance only, for a fast start. Each input line is a JSON request,
{"grammars": [{"name", "lark_grammar" | "gbnf" | "json_schema"}, …]}; each output line is
{"error": …} or {"grammars": […]} with GBNF converted to Lark. The answer to
{"schema", "text"} is {"fits": bool}.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.gbnf_to_lark import gbnf_to_lark

# Limits of one grammar in llguidance's units of work. One core of a server processes about 15,000 units of
# fuel or items per millisecond, so that a step takes a few milliseconds at most.
LIMITS = LLParserLimits(
    initial_lexer_fuel=500_000,  # for compilation
    max_grammar_size=200_000,
    step_lexer_fuel=50_000,  # per token
    step_max_items=20_000,
    max_items_in_row=4_000,  # an object with n optional properties needs 4 n
    max_lexer_states=20_000,  # 1 to 2 kB each
    verbose_errors=False,
)
_MEMORY = 768 << 20
_STACK = 1 << 20  # an eighth of a server thread's stack
_STEPS = 16


def matcher(tokenizer: LLTokenizer, grammars: list[dict[str, Any]]) -> LLMatcher:
    """Compiles the grammars; the first is the one to match. Never raises: see its get_error()."""
    return LLMatcher(tokenizer, json.dumps({"grammars": grammars}), limits=LIMITS, log_level=0)


def _try(request: dict[str, Any], tokenizer: LLTokenizer) -> dict[str, Any]:
    grammars = request["grammars"]
    for grammar in grammars:
        if "gbnf" in grammar:
            try:
                grammar["lark_grammar"] = gbnf_to_lark(grammar.pop("gbnf"))
            except RecursionError:
                return {"error": "grammar: expected less nesting"}
            except Exception as error:  # gbnf_to_lark also raises plain Exception
                return {"error": str(error)}
    trial = matcher(tokenizer, grammars)
    for _ in range(_STEPS):  # the first bytes of some answer
        if trial.is_error() or trial.is_stopped():
            break
        allowed = int.from_bytes(trial.compute_bitmask(), "little")
        if not trial.is_error():
            trial.consume_token((allowed & -allowed).bit_length() - 1)
    if trial.is_error():
        return {"error": trial.get_error() or "llguidance cannot parse it"}
    return {"grammars": grammars}


def _validate(schema: Any, text: str) -> dict[str, Any]:
    """Whether a JSON text is valid under a JSON schema. A schema that cannot be checked fits."""
    from jsonschema import Draft202012Validator, FormatChecker
    from referencing import Registry

    # The empty registry: nothing is fetched for a $ref to another place.
    validator = Draft202012Validator(schema, registry=Registry(), format_checker=FormatChecker())
    try:
        return {"fits": validator.is_valid(json.loads(text))}
    except Exception:  # an invalid schema raises errors of many kinds
        return {"fits": True}


def _answer(request: dict[str, Any], tokenizer: LLTokenizer) -> dict[str, Any]:
    if "schema" in request:
        return _validate(request["schema"], request["text"])
    return _try(request, tokenizer)


def _allow_another_second() -> None:
    """Limits this process to one to two more seconds of CPU time; the system then ends it."""
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime) + 2, hard))


def main() -> None:
    limited = sys.platform != "win32"
    if limited:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    threading.stack_size(_STACK)
    tokenizer = LLTokenizer("byte")
    print("ready", flush=True)
    for line in sys.stdin:
        if limited:
            _allow_another_second()
        answers: list[dict[str, Any]] = []
        request = json.loads(line)
        thread = threading.Thread(target=lambda: answers.append(_answer(request, tokenizer)))  # noqa: B023
        thread.start()
        thread.join()
        print(json.dumps(answers[0] if answers else {"error": "llguidance cannot parse it"}), flush=True)


if __name__ == "__main__":
    main()
