"""Runs real clients against the server and writes the table of docs/api.md.

    python tests/clients/matrix.py [--url URL] [--model NAME] [--write docs/api.md]

Without --url it serves the embedded model itself. A client that is not installed is reported as such. aider
and lm_eval are programs on the PATH, in environments of their own: their dependencies exclude those of the
others.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from clients.evaluation import QUESTIONS, environment, run_lm_eval

TEXT = "them dau: ha noi la thu do cua viet nam"
MESSAGES: Any = [{"role": "user", "content": TEXT}]
BEGIN, END = "<!-- clients: begin -->", "<!-- clients: end -->"
KEY = "none"


@dataclass(frozen=True)
class Target:
    """The server under test."""

    url: str
    model: str


@dataclass(frozen=True)
class Check:
    """One row: what a client does. `run` raises an exception if it fails, and returns what it saw. A client
    is a module, or a program on the PATH."""

    package: str
    module: str
    what: str
    run: Callable[[Target], str]
    program: str = ""

    def installed(self) -> bool:
        if self.program:
            return shutil.which(self.program) is not None
        return importlib.util.find_spec(self.module) is not None

    def version(self) -> str:
        if not self.program:
            return importlib.metadata.version(self.package)
        python = Path(os.path.realpath(program(self.program))).with_name("python")
        code = f"import importlib.metadata as m; print(m.version({self.package!r}))"
        return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


CHECKS: list[Check] = []


def check(
    package: str, what: str, module: str = "", program: str = ""
) -> Callable[[Callable[[Target], str]], None]:
    def add(run: Callable[[Target], str]) -> None:
        CHECKS.append(Check(package, module or package.replace("-", "_"), what, run, program))

    return add


def program(name: str) -> str:
    """The path of a program. Raises AssertionError if it is not installed."""
    path = shutil.which(name)
    assert path, f"expected the program {name} on the PATH"
    return path


def tool_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Hà Nội", "Huế"]}},
        "required": ["city"],
        "additionalProperties": False,
    }


def openai_client(target: Target) -> Any:
    import openai

    return openai.OpenAI(base_url=f"{target.url}/v1", api_key=KEY, max_retries=0)


def some(text: str | None) -> str:
    assert text, "expected text, got none"
    return text


# ---- OpenAI ------------------------------------------------------------------------------------------------


@check("openai", "chat")
def _(target: Target) -> str:
    answer = openai_client(target).chat.completions.create(model=target.model, messages=MESSAGES)
    return some(answer.choices[0].message.content)


@check("openai", "chat, async stream")
def _(target: Target) -> str:
    import openai

    async def run() -> str:
        async with openai.AsyncOpenAI(base_url=f"{target.url}/v1", api_key=KEY) as client:
            stream = await client.chat.completions.create(
                model=target.model, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
            )
            return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

    return some(asyncio.run(run()))


@check("openai", "parse into a pydantic model")
def _(target: Target) -> str:

    from pydantic import BaseModel

    class Place(BaseModel):
        city: Literal["Hà Nội", "Huế"]
        population: int

    answer = openai_client(target).chat.completions.parse(
        model=target.model, messages=MESSAGES, response_format=Place, max_tokens=80
    )
    return repr(answer.choices[0].message.parsed)


@check("openai", "tools")
def _(target: Target) -> str:
    function = {"name": "weather", "description": "Thời tiết", "parameters": tool_schema()}
    answer = openai_client(target).chat.completions.create(
        model=target.model,
        messages=MESSAGES,
        tools=[{"type": "function", "function": function}],
        tool_choice="required",
        max_tokens=80,
    )
    call = answer.choices[0].message.tool_calls[0]
    return json.loads(call.function.arguments)["city"]


@check("openai", "responses, stream, tools")
def _(target: Target) -> str:
    tool: Any = {"type": "function", "name": "weather", "parameters": tool_schema(), "strict": True}
    with openai_client(target).responses.stream(
        model=target.model, input=TEXT, tools=[tool], tool_choice="required", max_output_tokens=80
    ) as stream:
        for _event in stream:
            pass
        final = stream.get_final_response()
    return next(item.arguments for item in final.output if item.type == "function_call")


@check("openai", "completions, embeddings, models")
def _(target: Target) -> str:
    client = openai_client(target)
    some(client.completions.create(model=target.model, prompt="Hà Nội là", max_tokens=4).choices[0].text)
    vectors = client.embeddings.create(model=target.model, input=["a", "b"])
    assert target.model in [model.id for model in client.models.list()]
    return f"{len(vectors.data)} vectors"


@check("openai-agents", "an agent with a tool, one with an output type (responses)", "agents")
def _(target: Target) -> str:

    import openai
    from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
    from pydantic import BaseModel

    set_tracing_disabled(True)
    called: list[str] = []

    @function_tool
    def weather(city: Literal["Hà Nội", "Huế"]) -> str:
        """Thời tiết của một thành phố."""
        called.append(city)
        return "mưa"

    class Report(BaseModel):
        city: Literal["Hà Nội", "Huế"]

    async def run() -> str:
        client = openai.AsyncOpenAI(base_url=f"{target.url}/v1", api_key=KEY)
        model = OpenAIResponsesModel(target.model, client)
        settings = ModelSettings(tool_choice="required", max_tokens=200)
        caller = Agent(
            name="a",
            model=model,
            tools=[weather],
            model_settings=settings,
            tool_use_behavior="stop_on_first_tool",
        )
        assert (await Runner.run(caller, TEXT)).final_output == "mưa" and called
        reporter = Agent(name="b", model=model, output_type=Report)
        streamed = Runner.run_streamed(reporter, TEXT)
        async for _event in streamed.stream_events():
            pass
        return repr(streamed.final_output)

    return asyncio.run(run())


# ---- Anthropic ---------------------------------------------------------------------------------------------


@check("anthropic", "messages, stream, tools, count_tokens")
def _(target: Target) -> str:
    import anthropic

    client = anthropic.Anthropic(base_url=target.url, api_key=KEY, max_retries=0)
    assert client.messages.count_tokens(model=target.model, messages=MESSAGES).input_tokens > 5
    tool: Any = {"name": "weather", "description": "Thời tiết", "input_schema": tool_schema()}
    call = client.messages.create(
        model=target.model, max_tokens=80, messages=MESSAGES, tools=[tool], tool_choice={"type": "any"}
    )
    assert call.stop_reason == "tool_use"
    with client.messages.stream(model=target.model, max_tokens=64, messages=MESSAGES) as stream:
        return some("".join(stream.text_stream))


# ---- frameworks --------------------------------------------------------------------------------------------


@check("litellm", "completion, stream, tools")
def _(target: Target) -> str:
    import litellm

    common: Any = {
        "model": f"openai/{target.model}",
        "api_base": f"{target.url}/v1",
        "api_key": KEY,
        "messages": MESSAGES,
    }
    stream = litellm.completion(**common, stream=True)
    some("".join(chunk.choices[0].delta.content or "" for chunk in stream))
    function = {"name": "weather", "parameters": tool_schema()}
    call = litellm.completion(
        **common, tools=[{"type": "function", "function": function}], tool_choice="required", max_tokens=80
    )
    assert call.choices[0].message.tool_calls
    return some(litellm.completion(**common).choices[0].message.content)


@check("litellm", "Anthropic's API")
def _(target: Target) -> str:
    import litellm

    answer = litellm.completion(
        model=f"anthropic/{target.model}",
        api_base=target.url,
        api_key=KEY,
        messages=MESSAGES,
        max_tokens=64,
    )
    return some(answer.choices[0].message.content)


@check("langchain-openai", "invoke, stream, tools, structured output")
def _(target: Target) -> str:
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(
        model=target.model, base_url=f"{target.url}/v1", api_key=KEY, max_tokens=80, temperature=0
    )
    some(str(model.invoke(TEXT).content))
    some("".join(str(chunk.content) for chunk in model.stream(TEXT)))
    tool: Any = {"title": "weather", "description": "Thời tiết", **tool_schema()}
    called = model.bind_tools([tool], tool_choice="weather").invoke(TEXT)
    assert called.tool_calls
    form: Any = model.with_structured_output(tool, method="json_schema").invoke(TEXT)
    return str(form["city"])


@check("instructor", "a pydantic model, by tools and by JSON schema")
def _(target: Target) -> str:

    import instructor
    from pydantic import BaseModel

    class Place(BaseModel):
        city: Literal["Hà Nội", "Huế"]

    found = ""
    for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
        client = instructor.from_openai(openai_client(target), mode=mode)
        place = client.chat.completions.create(
            model=target.model, messages=MESSAGES, response_model=Place, max_tokens=80
        )
        found = place.city
    return found


@check("pydantic-ai-slim", "agent with an output type and a tool", "pydantic_ai")
def _(target: Target) -> str:

    from pydantic import BaseModel
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    class Place(BaseModel):
        city: Literal["Hà Nội", "Huế"]

    provider = OpenAIProvider(base_url=f"{target.url}/v1", api_key=KEY)
    agent = Agent(
        OpenAIChatModel(target.model, provider=provider),
        output_type=Place,
        model_settings={"max_tokens": 100},
    )

    return agent.run_sync(TEXT).output.city


@check("llm", "command with a model of extra-openai-models.yaml")
def _(target: Target) -> str:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "extra-openai-models.yaml").write_text(
            f"- model_id: here\n  model_name: {target.model}\n  api_base: {target.url}/v1\n", "utf-8"
        )
        done = subprocess.run(
            [sys.executable, "-m", "llm", "-m", "here", "--key", KEY, TEXT],
            env=os.environ | {"LLM_USER_PATH": folder},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    return some(done.stdout.strip())


@check("ollama", "chat, stream, generate, embed, list (--ollama)")
def _(target: Target) -> str:
    import ollama

    client = ollama.Client(host=target.url)
    assert target.model in [str(model.model) for model in client.list().models]
    some(client.generate(model=target.model, prompt=TEXT).response)
    assert client.embed(model=target.model, input=["a", "b"]).embeddings
    parts = [part.message.content or "" for part in client.chat(target.model, MESSAGES, stream=True)]
    some("".join(parts))
    form = client.chat(target.model, MESSAGES, format=tool_schema(), options={"num_predict": 80})
    assert json.loads(form.message.content or "")["city"]
    return some(client.chat(target.model, MESSAGES).message.content)


# ---- programs ----------------------------------------------------------------------------------------------


@check("aider-chat", "one message about a file (whole edit format)", program="aider")
def _(target: Target) -> str:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "greet.py").write_text('def greet():\n    return "hello"\n', "utf-8")
        return run_aider(target, Path(folder), 'Change the text "hello" in greet.py to "xin chao".')


@check("lm-eval", "a whole task by log probabilities (local-completions)", program="lm_eval")
def _(target: Target) -> str:
    with tempfile.TemporaryDirectory() as folder:
        accuracy, samples = run_lm_eval(program("lm_eval"), target.url, target.model, Path(folder))
    assert len(samples) == QUESTIONS
    return f"accuracy {accuracy}"


def run_aider(target: Target, folder: Path, message: str) -> str:
    """What aider prints after one message about greet.py in `folder`."""
    settings = ["--model", f"openai/{target.model}", "--openai-api-base", f"{target.url}/v1"]
    settings += ["--openai-api-key", KEY, "--edit-format", "whole", "--map-tokens", "0", "--no-git"]
    settings += ["--no-show-model-warnings", "--no-check-update", "--analytics-disable", "--no-pretty"]
    done = subprocess.run(
        [program("aider"), "--yes-always", *settings, "--message", message, "greet.py"],
        cwd=folder,
        env=environment(folder) | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0 and "litellm." not in done.stdout, done.stdout + done.stderr
    return some(done.stdout.partition("Added greet.py to the chat.")[2].strip())


# ---- the table ---------------------------------------------------------------------------------------------


def run_all(target: Target) -> list[tuple[Check, str, str, str]]:
    """For each check: the version of the client, the result ("works", "fails", "not installed"), and what it
    saw."""
    rows = []
    for one in CHECKS:
        if not one.installed():
            rows.append((one, "", "not installed", ""))
            continue
        try:
            seen, result = one.run(target), "works"
        except Exception as error:
            seen, result = f"{type(error).__name__}: {error}"[:300], "fails"
            traceback.print_exc()
        print(f"{result:14} {one.package}: {one.what}: {seen[:120]}", flush=True)
        rows.append((one, one.version(), result, seen))
    return rows


def table(rows: list[tuple[Check, str, str, str]]) -> str:
    lines = ["| client | version | calls | result |", "| --- | --- | --- | --- |"]
    lines += [f"| {one.package} | {version} | {one.what} | {result} |" for one, version, result, _ in rows]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a running server; its model must be named with --model")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--file", help="GGUF file to serve; the embedded model without it")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table in this file")
    options = parser.parse_args()
    with ExitStack() as stack:
        url = options.url
        if url is None:
            from serving import serving

            settings: Any = {"models": {options.model: options.file}, "ollama": True}
            url = stack.enter_context(serving(**settings, threads=None))
        rows = run_all(Target(url, options.model))
    text = table(rows)
    print(text)
    if options.write:
        found = options.write.read_text("utf-8")
        pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
        options.write.write_text(pattern.sub(f"{BEGIN}\n{text}\n{END}", found), "utf-8")
    return any(result == "fails" for _, _, result, _ in rows)


if __name__ == "__main__":
    sys.exit(main())
