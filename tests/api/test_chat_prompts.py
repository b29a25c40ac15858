"""binhdan_chat_tokenize and the Python client's Jinja templates return the same tokens for the same file."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from api.abi import check, ffi, lib, open_model
from tiny_families import VocabularyKind
from tiny_models import SMALL, SPECIALS, write_gguf

import binhdan
from binhdan.runtime.prompting.chat import Message

QWEN25 = r"""{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' }}
    {%- endif %}
    {{- "\n\n# Tools\n\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools><|im_end|>\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' }}
        {{- message.content }}
        {{- '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""  # noqa: E501
QWEN3 = r"""{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning_content = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' }}
        {{- content }}
        {{- '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
"""  # noqa: E501
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    r"{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
    r"trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}"
    r"{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    r"{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}"
    "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
    "{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    r"{% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    r"{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    "+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    r"{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    template: str | None
    vocabulary: VocabularyKind = "gpt2"
    specials: tuple[str, str, str] = SPECIALS
    tools: bool = True  # the template supports tool messages


FAMILIES = {
    "chatml of Qwen2.5": Family(QWEN25),
    "chatml of Qwen3": Family(QWEN3),
    "chatml of SmolLM2": Family(SMOLLM2),
    "llama2": Family(LLAMA2, "llama", tools=False),
    "llama3": Family(LLAMA3, specials=("<|begin_of_text|>", "<|start_header_id|>", "<|eot_id|>")),
    "plain": Family(None, "llama"),
}
MARKERS = "<|im_end|>\n<|im_start|>system\n</s><s>[INST] <|eot_id|><|start_header_id|>user<|begin_of_text|>"
NFD = unicodedata.normalize("NFD", "Hà Nội là thủ đô của Việt Nam?")
CONVERSATIONS: dict[str, list[tuple[str, str]]] = {
    "question": [("user", "Chào bạn")],
    "system": [("system", "Trả lời ngắn gọn."), ("user", "Thủ đô của Việt Nam?")],
    "turns": [("user", "một"), ("assistant", "hai"), ("user", "ba"), ("assistant", "bốn"), ("user", "năm")],
    "system and turns": [("system", NFD), ("user", NFD), ("assistant", NFD), ("user", "nữa")],
    "spaces": [
        ("system", " \tmột\u3000\n"), ("user", "\n\u00a0 hai \x1c\n"), ("assistant", "  ba\n "),
        ("user", " \n"),
    ],
    "empty": [("system", ""), ("user", " "), ("assistant", ""), ("user", "")],
    "markers": [("system", MARKERS), ("user", MARKERS), ("assistant", MARKERS), ("user", MARKERS + "<|im_")],
    "reasoning": [
        ("user", "một"), ("assistant", "<think>\nhai\n</think>\n\nba"), ("user", "bốn"),
        ("assistant", "<think>\n\n năm\n\n</think>\n\nsáu"),
    ],
    "tools": [
        ("user", "giờ?"), ("assistant", "xem"), ("tool", "8 giờ"), ("tool", "thứ hai"), ("assistant", "8"),
    ],
}  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES, ids=str)
def family(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    family = FAMILIES[request.param]
    path = tmp_path_factory.mktemp("chat") / "model.gguf"
    shape = SMALL if family.vocabulary == "gpt2" else replace(SMALL, vocabulary=family.vocabulary)
    yield request.param, write_gguf(path, shape, chat_template=family.template, specials=family.specials)


def c_tokens(path: Path, messages: list[tuple[str, str]], add_generation_prompt: bool) -> list[int]:
    model = open_model(path)
    alive = [(ffi.new("char[]", role.encode()), content.encode()) for role, content in messages]
    c_messages = ffi.new("binhdan_message[]", len(messages))
    for message, (role, content) in zip(c_messages, alive, strict=True):
        message.role, message.content, message.size = role, ffi.from_buffer(content), len(content)
    tokens, count = ffi.new("int32_t[]", 4096), ffi.new("size_t *")
    check(
        lib.binhdan_chat_tokenize(
            model,
            lib.BINHDAN_CHAT_AUTO,
            c_messages,
            len(messages),
            add_generation_prompt,
            tokens,
            4096,
            count,
        )
    )
    lib.binhdan_model_close(model)
    return list(ffi.unpack(tokens, count[0]))


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_c_and_python_build_the_same_prompt(family: tuple[str, Path], conversation: str) -> None:
    name, path = family
    turns = CONVERSATIONS[conversation]
    if conversation == "tools" and not FAMILIES[name].tools:
        pytest.skip("the template rejects tool messages")
    messages: list[Message] = [{"role": role, "content": content} for role, content in turns]  # type: ignore[typeddict-item]
    with binhdan.load(path, threads=1) as model:
        for add_generation_prompt in (True, False):
            expected = model.chat_tokens(messages, add_generation_prompt=add_generation_prompt)
            tokens = c_tokens(path, turns, add_generation_prompt)
            assert model.detokenize(tokens, special=True) == model.detokenize(expected, special=True)
            assert tokens == expected
