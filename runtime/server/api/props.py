"""Facts that llama.cpp's clients read: /props, /slots and /apply-template."""

from __future__ import annotations

import asyncio
from pathlib import PurePath
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from binhdan.runtime.ffi import library
from binhdan.runtime.server.api.common import ModelName
from binhdan.runtime.server.api.conversation import MAX_MESSAGES, ChatMessage, TemplateFields
from binhdan.runtime.server.api.llama_cpp import RANDOM_SEED
from binhdan.runtime.server.context import server_of
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http.json_route import JsonRoute
from binhdan.runtime.server.models.pool import LoadedModel

router = APIRouter(route_class=JsonRoute)


class TemplateBody(TemplateFields):
    """The fields of a chat that its prompt depends on."""

    model: ModelName = None
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]

    def render(self, loaded: LoadedModel) -> str:
        """The text of the prompt, without the token that begins texts. Raises ApiError."""
        model = loaded.model
        thinking = bool((self.chat_template_kwargs or {}).get("enable_thinking"))
        prompt = self.prompt_of(model.tokenizer, self.messages, thinking)
        tokens, begin = list(prompt.tokens), model.tokenizer.encode("a", add_special=True)[:1]
        added = begin == [model.info.bos] == tokens[:1]
        return model.detokenize(tokens[added:], special=True)


@router.get("/props")
async def props(request: Request) -> dict[str, Any]:
    """Facts about the default model and the server. No paths."""
    server = server_of(request)
    async with server.pool.use(None) as loaded:
        tokenizer, info = loaded.model.tokenizer, loaded.model.info
        source = server.config.models[server.pool.base(loaded.name)]
        params = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "n_predict": -1}
        return {
            "default_generation_settings": {
                "n_ctx": loaded.model.context,
                "params": params | {"seed": RANDOM_SEED},
            },
            "total_slots": server.config.max_sequences,
            "model_alias": loaded.name,
            "model_path": PurePath(source or "").name,
            "chat_template": tokenizer.chat_template_source or "",
            "bos_token": "" if info.bos is None else tokenizer.token_text(info.bos),
            "eos_token": "" if info.eos is None else tokenizer.token_text(info.eos),
            "modalities": {"vision": False, "audio": False},
            "build_info": f"binhdan {library().version()}",
            "is_sleeping": False,
        }


@router.get("/slots")
async def slots(request: Request, fail_on_no_slot: bool = False) -> list[dict[str, Any]]:
    """One object for each sequence that the default model can compute at once. Requests have no fixed slot:
    the first ones stand for those that run. With `fail_on_no_slot` 503 if all run."""
    server = server_of(request)
    async with server.pool.use(None) as loaded:
        running = loaded.model.engine_info()["running"]
        count = server.config.max_sequences
        if fail_on_no_slot and running >= count:
            raise ApiError(
                503,
                f"all {count} slots are busy; try again later",
                type="server_error",
                code="overloaded",
                headers={"Retry-After": "1"},
            )
        return [{"id": i, "n_ctx": loaded.model.context, "is_processing": i < running} for i in range(count)]


@router.post("/apply-template")
async def apply_template(request: Request, body: TemplateBody) -> dict[str, str]:
    """The text of the prompt of a conversation. Nothing is generated."""
    async with server_of(request).pool.use(body.model) as loaded:
        return {"prompt": await asyncio.to_thread(body.render, loaded)}
