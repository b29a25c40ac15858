"""Greedy answers in batches, and a constraint that allows changes of diacritics only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from train_tiny_vi.model import TinyModel, apply_rope
from train_tiny_vi.text import strip_marks
from train_tiny_vi.tokenizer import chat_ids

Allowed = Callable[[list[int]], list[int]]  # tokens so far -> tokens that may come next
_END: Final = 2  # <|im_end|>


class Cache:
    """The KV cache of a batch of left-padded prompts."""

    def __init__(self, model: TinyModel, pads: Tensor) -> None:
        self.model, self.pads, self.length = model, pads, 0
        self.layers: list[tuple[Tensor, Tensor]] = []

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns hidden states of the next tokens, (batch, n, hidden)."""
        shape, body = self.model.shape, self.model.model
        batch, count = tokens.shape
        end = self.length + count
        places = (torch.arange(self.length, end)[None] - self.pads[:, None]).clamp(min=0)
        cos, sin = self.model.cos[places].unsqueeze(1), self.model.sin[places].unsqueeze(1)
        rows, columns = torch.arange(self.length, end)[:, None], torch.arange(end)[None]
        mask = (columns <= rows) & ((columns >= self.pads[:, None, None]) | (columns == rows))
        x = body.embed_tokens(tokens).to(self.model.dtype)
        for i, layer in enumerate(body):
            own, normed = layer.self_attn, layer.input_layernorm(x)
            split = (batch, count, -1, shape.head_dim)
            q = apply_rope(own.q_norm(own.q_proj(normed).view(split)).transpose(1, 2), cos, sin)
            k = apply_rope(own.k_norm(own.k_proj(normed).view(split)).transpose(1, 2), cos, sin)
            v = own.v_proj(normed).view(split).transpose(1, 2)
            if self.length:
                k, v = torch.cat((self.layers[i][0], k), 2), torch.cat((self.layers[i][1], v), 2)
            self.layers[i : i + 1] = [(k, v)]
            groups = shape.heads // shape.kv_heads
            out = F.scaled_dot_product_attention(
                q, k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1), attn_mask=mask.unsqueeze(1)
            )
            x = x + own.o_proj(out.transpose(1, 2).reshape(batch, count, -1))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        self.length = end
        hidden: Tensor = body.norm(x)
        return hidden


@torch.no_grad()
def answer(
    model: TinyModel,
    tokenizer: Tokenizer,
    questions: Sequence[str],
    max_tokens: int = 200,
    allowed: Sequence[Allowed] | None = None,
    batch: int = 32,
) -> list[str]:
    """Returns greedy answers. `allowed[i]` limits the tokens of the answer to question i."""
    prompts = [chat_ids(tokenizer, question) for question in questions]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    out = [""] * len(prompts)
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        rules = [allowed[i] for i in part] if allowed else None
        for i, ids in zip(part, _answer([prompts[i] for i in part], model, max_tokens, rules), strict=True):
            out[i] = tokenizer.decode(ids)
    return out


def _answer(
    prompts: list[list[int]], model: TinyModel, max_tokens: int, rules: list[Allowed] | None
) -> list[list[int]]:
    longest = max(map(len, prompts))
    max_tokens = min(max_tokens, model.shape.context - longest)
    cache = Cache(model, torch.tensor([longest - len(p) for p in prompts]))
    tokens = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
    out: list[list[int]] = [[] for _ in prompts]
    active = set(range(len(prompts)))
    for _ in range(max_tokens):
        logits = model.logits(cache.forward(tokens)[:, -1])
        for i in sorted(active):
            if rules:
                choices = torch.tensor(rules[i](out[i]))
                token = int(choices[logits[i, choices].argmax()])
            else:
                token = int(logits[i].argmax())
            if token in (_END, 0):
                active.discard(i)
            else:
                out[i].append(token)
        if not active:
            break
        tokens = torch.tensor([[ids[-1] if ids else 0] for ids in out])
    return out


class MarksOnly:
    """A constraint: the answer may differ from a text in Vietnamese marks only.

    A token is allowed if, without marks, it continues the text without marks.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.by_bare: dict[str, list[int]] = {}
        self.lengths: dict[int, int] = {}  # in characters
        for token in range(3, tokenizer.get_vocab_size()):
            text = tokenizer.decode([token])
            if text and "\ufffd" not in text:
                self.lengths[token] = len(text)
                self.by_bare.setdefault(strip_marks(text), []).append(token)
        self.longest = max(map(len, self.by_bare))

    def rule(self, text: str) -> Allowed:
        return _Rule(self, strip_marks(text))


class _Rule:
    """The state of one answer. Called once before every token with the tokens so far."""

    def __init__(self, marks: MarksOnly, bare: str) -> None:
        self.marks, self.bare, self.place = marks, bare, 0
        self.spelt: list[int] = []  # remaining byte tokens of a character that is not one token
        self.chosen = False  # whether the last token came from `by_bare`

    def __call__(self, tokens: list[int]) -> list[int]:
        if self.spelt:
            return [self.spelt.pop(0)]
        if self.chosen:
            self.place += self.marks.lengths[tokens[-1]]
            self.chosen = False
        if self.place >= len(self.bare):
            return [_END]
        ends = range(self.place + 1, min(len(self.bare), self.place + self.marks.longest) + 1)
        found = [t for end in ends for t in self.marks.by_bare.get(self.bare[self.place : end], ())]
        if found:
            self.chosen = True
            return found
        first, *self.spelt = self.marks.tokenizer.encode(self.bare[self.place], add_special_tokens=False).ids
        self.place += 1
        return [first]
