"""A Qwen3-style transformer, small enough to train on two CPU cores.

Parameters have the names of a Hugging Face checkpoint of Qwen3, so export.py only copies them. Weights are
float32; activations are `dtype` (bfloat16 if the machine has fast bfloat16 products). Only positions with a
loss go through the output matrix: about half of them with tasks in the mixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """Sizes. `hidden`, `heads * head_dim` and `ffn` are row lengths of matrices.

    Raises ValueError unless these are multiples of 256, which all quantization types support.
    """

    vocab: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    context: int
    rope_theta: float = 10000.0
    eps: float = 1e-6

    def __post_init__(self) -> None:
        for name in ("hidden", "ffn"):
            if getattr(self, name) % 256:
                raise ValueError(f"{name}: expected a multiple of 256, got {getattr(self, name)}")
        if self.heads * self.head_dim % 256 or self.heads % self.kv_heads:
            raise ValueError(
                "expected heads * head_dim to be a multiple of 256 and heads a multiple of kv_heads"
            )


class Norm(nn.Module):
    """RMSNorm over the last axis, computed in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (wide * scale * self.weight).to(x.dtype)


class Linear(nn.Module):
    """A matrix without bias, (outputs, inputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = F.linear(x, self.weight.to(x.dtype))
        return out


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates pairs (i, i + d/2) of x (batch, heads, length, d); cos, sin: (length, d/2)."""
    a, b = x.float().chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


def visible(tokens: Tensor, end: int = 0) -> Tensor:
    """Returns the attention mask, bool (batch, 1, length, length): causal, within the item of each position.

    An item ends with the token `end`.
    """
    item = (tokens == end).cumsum(-1) - (tokens == end).long()
    length = tokens.shape[1]
    past = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
    return (past & (item[:, :, None] == item[:, None, :])).unsqueeze(1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention over (batch, heads, length, head_dim).

    On a CPU, for short rows, two batched products and a fused softmax are several times as fast as the
    backward pass of torch's kernel.
    """
    if q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    weights: Tensor = scores.masked_fill(~mask, float("-inf")).softmax(-1).to(v.dtype)
    return weights @ v


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.heads * shape.head_dim
        self.q_proj = Linear(shape.hidden, width)
        self.k_proj = Linear(shape.hidden, shape.kv_heads * shape.head_dim)
        self.v_proj = Linear(shape.hidden, shape.kv_heads * shape.head_dim)
        self.o_proj = Linear(width, shape.hidden)
        self.q_norm = Norm(shape.head_dim, shape.eps)
        self.k_norm = Norm(shape.head_dim, shape.eps)

    def forward(self, x: Tensor, mask: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, _ = x.shape
        split = (batch, length, -1, self.shape.head_dim)
        q = apply_rope(self.q_norm(self.q_proj(x).view(split)).transpose(1, 2), cos, sin)
        k = apply_rope(self.k_norm(self.k_proj(x).view(split)).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(split).transpose(1, 2)
        groups = self.shape.heads // self.shape.kv_heads
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        out: Tensor = self.o_proj(attend(q, k, v, mask).transpose(1, 2).reshape(batch, length, -1))
        return out


class FeedForward(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = Linear(shape.hidden, shape.ffn)
        self.up_proj = Linear(shape.hidden, shape.ffn)
        self.down_proj = Linear(shape.ffn, shape.hidden)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = Norm(shape.hidden, shape.eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = Norm(shape.hidden, shape.eps)
        self.mlp = FeedForward(shape)

    def forward(self, x: Tensor, mask: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), mask, cos, sin)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Body(nn.Module):
    """The model without the output matrix, which is tied to the embedding."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.hidden, shape.eps)

    def __iter__(self) -> Iterator[Layer]:
        for layer in self.layers:
            assert isinstance(layer, Layer)
            yield layer


class TinyModel(nn.Module):
    """`forward` returns hidden states for `summed_loss`; use `logits` for a few positions only."""

    cos: Tensor  # (context, head_dim / 2)
    sin: Tensor

    def __init__(self, shape: Shape, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.shape, self.dtype = shape, dtype
        self.model = Body(shape)
        half = shape.head_dim // 2
        angles = torch.outer(torch.arange(shape.context), shape.rope_theta ** (-torch.arange(half) / half))
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.reset()

    def reset(self) -> None:
        """Initializes matrices with deviation 0.02; less, by depth, if they write to the residual stream."""
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(weight, std=0.02 / (2 * self.shape.layers) ** 0.5 if residual else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns hidden states (batch, length, hidden) of tokens (batch, length)."""
        length = tokens.shape[1]
        cos, sin = self.cos[:length], self.sin[:length]
        mask = visible(tokens)
        x = self.model.embed_tokens(tokens).to(self.dtype)
        for layer in self.model:
            x = layer(x, mask, cos, sin)
        out: Tensor = self.model.norm(x)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.model.embed_tokens.weight.to(hidden.dtype)).float()


class _SummedLoss(torch.autograd.Function):
    """Sum of cross-entropies; `forward` also computes the gradients, a block of rows at a time.

    So each row of logits is read while it is in cache, and memory never holds all of them.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor, rows: int) -> Tensor:  # type: ignore[no-untyped-def]
        table = weight.to(hidden.dtype)
        d_hidden = torch.empty_like(hidden)
        d_table = torch.zeros_like(weight)
        total = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, len(hidden), rows):
            part = hidden[start : start + rows]
            loss, d_logits = _block(F.linear(part, table), targets[start : start + rows])
            total += loss
            torch.mm(d_logits, table, out=d_hidden[start : start + rows])
            d_table += d_logits.T @ part
        ctx.save_for_backward(d_hidden, d_table)
        return total

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[no-untyped-def]
        d_hidden, d_table = ctx.saved_tensors
        return d_hidden * grad.to(d_hidden.dtype), d_table * grad, None, None


def _block(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the summed loss and its gradient for logits (rows, vocab); ignores targets of -1."""
    wide = logits.float()
    wide = wide - wide.amax(-1, keepdim=True)
    exp = wide.exp()
    total = exp.sum(-1, keepdim=True)
    counts = (targets >= 0).float()[:, None]
    loss = ((total.log() - wide.gather(-1, targets.clamp(min=0)[:, None])) * counts).sum()
    hit = torch.arange(logits.shape[-1], device=logits.device) == targets[:, None]
    return loss, ((exp / total - hit.float()) * counts).to(logits.dtype)


def compile_parts(model: TinyModel) -> None:
    """Compiles the layers and the loss with torch.compile (about a minute; on a CPU needs a C++ compiler)."""
    global _block
    for layer in model.model:
        layer.compile()
    _block = torch.compile(_block)


def summed_loss(model: TinyModel, hidden: Tensor, targets: Tensor, rows: int = 256) -> Tensor:
    """Returns the sum of cross-entropies of hidden (n, hidden) against targets (n,)."""
    # Pad to whole blocks: one shape to compile and to allocate.
    padding = -len(hidden) % rows
    hidden, targets = F.pad(hidden, (0, 0, 0, padding)), F.pad(targets, (0, padding), value=-1)
    weight = model.model.embed_tokens.weight
    loss: Tensor = _SummedLoss.apply(hidden, weight, targets, rows)  # type: ignore[no-untyped-call]
    return loss
