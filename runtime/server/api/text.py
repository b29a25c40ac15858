"""/tokenize, /detokenize and /tokenizer_info of llama.cpp and vLLM: exact, without normalization."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from binhdan.runtime.prompting.tokenizer import Tokenizer
from binhdan.runtime.server.api.body import RequestBody
from binhdan.runtime.server.api.common import ModelName
from binhdan.runtime.server.api.conversation import MAX_MESSAGES, ChatMessage, TemplateFields
from binhdan.runtime.server.api.prompts import MAX_TOKENS
from binhdan.runtime.server.context import server_of
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http.json_route import JsonRoute

router = APIRouter(route_class=JsonRoute)


class TokenizeBody(TemplateFields):
    """llama.cpp's fields (`content`, `add_special`, `with_pieces`), or vLLM's (`prompt` or `messages`,
    `add_special_tokens`, `return_token_strs`)."""

    model: ModelName = None
    content: str | None = None
    add_special: bool = False
    parse_special: bool = False
    with_pieces: bool = False
    prompt: str | None = None
    add_special_tokens: bool = True
    return_token_strs: bool = False
    messages: Annotated[list[ChatMessage] | None, Field(min_length=1, max_length=MAX_MESSAGES)] = None

    def encode(self, tokenizer: Tokenizer) -> list[int]:
        """The tokens. Raises ApiError without a text."""
        if self.messages is not None:
            return list(self.prompt_of(tokenizer, self.messages, thinking=False).tokens)
        if self.content is not None:
            return tokenizer.encode(
                self.content, add_special=self.add_special, parse_special=self.parse_special
            )
        if self.prompt is not None:  # vLLM's tokenizers read the names of control tokens
            return tokenizer.encode(self.prompt, add_special=self.add_special_tokens, parse_special=True)
        raise ApiError(
            400, "content: expected content, prompt or messages, got none of them", param="content"
        )


class DetokenizeBody(RequestBody):
    model: ModelName = None
    tokens: Annotated[list[int], Field(max_length=MAX_TOKENS)]


@router.post("/tokenize")
async def tokenize(request: Request, body: TokenizeBody) -> dict[str, Any]:
    """The tokens of a text."""
    async with server_of(request).pool.use(body.model) as loaded:
        tokenizer = loaded.model.tokenizer
        tokens = await asyncio.to_thread(body.encode, tokenizer)
        result: dict[str, Any] = {
            "tokens": tokens,
            "count": len(tokens),
            "max_model_len": loaded.model.context,
        }
        if body.with_pieces:
            result["tokens"] = [{"id": token, "piece": _piece(tokenizer, token)} for token in tokens]
        if body.return_token_strs:
            result["token_strs"] = [tokenizer.token_text(token) for token in tokens]
        return result


@router.post("/detokenize")
async def detokenize(request: Request, body: DetokenizeBody) -> dict[str, str]:
    """The text of tokens. Bytes that are not UTF-8 become U+FFFD."""
    async with server_of(request).pool.use(body.model) as loaded:
        text = await asyncio.to_thread(loaded.model.detokenize, body.tokens, special=True)
        return {"content": text, "prompt": text}  # llama.cpp's name, and vLLM's


@router.get("/tokenizer_info")
async def tokenizer_info(request: Request, model: str | None = None) -> dict[str, Any]:
    """Control tokens and the chat template, as in vLLM. Clients such as lm-eval need no copy of the tokenizer
    then."""
    async with server_of(request).pool.use(model) as loaded:
        tokenizer, info = loaded.model.tokenizer, loaded.model.info
        tokens = {"bos": info.bos, "eos": info.eos, "unk": info.unknown, "pad": info.padding}
        return {
            **{
                f"{name}_token": None if token is None else tokenizer.token_text(token)
                for name, token in tokens.items()
            },
            "chat_template": tokenizer.chat_template_source,
            "model_max_length": loaded.model.context,
        }


def _piece(tokenizer: Tokenizer, token: int) -> str | list[int]:
    """The text of a token, or its bytes if they are not whole characters."""
    data = tokenizer.decode((token,), special=True)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)
