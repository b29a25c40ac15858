"""The oracle: a float64 forward pass of every architecture on a GGUF file, written to be read.

It shares no code with the core: the gguf package reads and dequantizes the file, numpy computes. transformers
and llama.cpp agree with it (tests/goldens/). In shapes, n = positions, d = width, v = vocabulary.

What a layer contains follows from its tensors: biases, norms of q and k, norms after attention and
feed-forward, fused matrices, experts. The rest is in reference_config.py.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import reference_layers as layers
from reference_config import Layer, read_config
from reference_layers import Array, rms_norm

KeysAndValues = dict[int, tuple[Array, Array]]  # of each layer: (n, KV heads, head size)


class ReferenceModel:
    """A model with the weights of a GGUF file in float64."""

    def __init__(self, path: Path | str, context: int | None = None) -> None:
        """``context``: the largest context of the run, for RoPE factors that depend on it (phi3)."""
        reader = gguf.GGUFReader(path)
        self.keys = {name: field.contents() for name, field in reader.fields.items()}
        self.weights: dict[str, Array] = {
            tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float64)
            for tensor in reader.tensors
        }
        self.config = read_config(self.keys, set(self.weights), context)

    # ---- results

    def logits(self, tokens: list[int]) -> Array:
        """Returns the next-token logits after each of ``tokens``, (n, v)."""
        w, c = self.weights, self.config
        logits = self.hidden(tokens) @ w.get("output.weight", w["token_embd.weight"]).T / c.logit_scale
        return layers.softcap(logits, c.logit_softcap)

    def hidden(self, tokens: list[int]) -> Array:
        """Returns the hidden states after the last norm, (n, d)."""
        x = self._embed(tokens)
        per_layer = self._per_layer_inputs(tokens, x)
        kv: KeysAndValues = {}
        for i in range(len(self.config.layers)):
            x = (
                self._post_norm_layer(x, i, kv)
                if self.config.architecture == "bert"
                else self._layer(x, i, kv)
            )
            if per_layer is not None:
                x = self._add_per_layer_input(x, i, per_layer[:, i])
            x = x * self.weights.get(f"blk.{i}.layer_output_scale.weight", 1.0)
        lfm2 = self.config.architecture in ("lfm2", "lfm2moe")
        return (
            x
            if self.config.architecture == "bert"
            else self._norm(x, "token_embd_norm" if lfm2 else "output_norm")
        )

    def pooled(self, tokens: list[int]) -> Array:
        """Returns the embedding, not normalised, or the score of a rank model."""
        x, pooling, w = self.hidden(tokens), self.config.pooling, self.weights
        if pooling == "none":
            raise ValueError("expected a pooling_type in the file, got none")
        out: Array = {"mean": x.mean(axis=0), "cls": x[0], "last": x[-1], "rank": x[0]}[pooling]
        if pooling == "rank":
            if "cls.weight" in w:
                out = np.tanh(self._linear(out, "cls"))
            return self._linear(out, "cls.output")
        for dense in ("dense_2", "dense_3"):
            out = self._linear(out, dense) if f"{dense}.weight" in w else out
        return out

    def greedy(self, tokens: list[int], count: int, ends: tuple[int, ...] = ()) -> list[int]:
        """Returns up to ``count`` greedy tokens; stops before the first of ``ends``."""
        out: list[int] = []
        while len(out) < count:
            token = int(self.logits(tokens + out)[-1].argmax())
            if token in ends:
                break
            out.append(token)
        return out

    # ---- parts

    def _linear(self, x: Array, name: str) -> Array:
        y: Array = x @ self.weights[f"{name}.weight"].T
        return y + self.weights.get(f"{name}.bias", 0.0)

    def _norm(self, x: Array, name: str) -> Array:
        """RMSNorm, or LayerNorm if the norm has a bias; the identity if the file does not have it."""
        weight, bias = self.weights.get(f"{name}.weight"), self.weights.get(f"{name}.bias")
        if weight is None:
            return x
        epsilon = self.config.epsilon
        return rms_norm(x, weight, epsilon) if bias is None else layers.layer_norm(x, weight, bias, epsilon)

    def _embed(self, tokens: list[int]) -> Array:
        w = self.weights
        x = w["token_embd.weight"][tokens] * self.config.embedding_scale
        if self.config.architecture != "bert":
            return x
        x = x + w["position_embd.weight"][: len(tokens)]
        if "token_types.weight" in w:
            x = x + w["token_types.weight"][self._token_types(tokens)]
        return self._norm(x, "token_embd_norm")

    def _token_types(self, tokens: list[int]) -> list[int]:
        """0; in a reranker with WordPiece, 1 after the first [SEP], as BERT's tokenizer sets them."""
        separator = self.keys.get("tokenizer.ggml.seperator_token_id")
        has_types = (
            len(self.weights["token_types.weight"]) > 1 and self.keys["tokenizer.ggml.model"] == "bert"
        )
        if self.config.pooling != "rank" or not has_types or separator not in tokens:
            return [0] * len(tokens)
        first = tokens.index(separator) + 1
        return [0] * first + [1] * (len(tokens) - first)

    def _layer(self, x: Array, i: int, kv: KeysAndValues) -> Array:
        blk, scale = f"blk.{i}", self.config.residual_scale
        # In qwen35, post_attention_norm is the norm before the feed-forward part.
        before_ffn = (
            f"{blk}.ffn_norm" if f"{blk}.ffn_norm.weight" in self.weights else f"{blk}.post_attention_norm"
        )
        y = self._mix(self._norm(x, f"{blk}.attn_norm"), i, kv)
        if before_ffn != f"{blk}.post_attention_norm":
            y = self._norm(y, f"{blk}.post_attention_norm")
        x = x + y * scale
        y = self._feed_forward(self._norm(x, before_ffn), blk)
        return x + self._norm(y, f"{blk}.post_ffw_norm") * scale

    def _post_norm_layer(self, x: Array, i: int, kv: KeysAndValues) -> Array:
        blk = f"blk.{i}"
        x = self._norm(x + self._mix(x, i, kv), f"{blk}.attn_output_norm")
        return self._norm(x + self._feed_forward(x, blk), f"{blk}.layer_output_norm")

    def _mix(self, x: Array, i: int, kv: KeysAndValues) -> Array:
        layer, blk = self.config.layers[i], f"blk.{i}"
        if layer.mixer == "delta_net":
            return self._delta_net(x, blk)
        if layer.mixer == "short_convolution":
            return self._short_convolution(x, blk)
        return self._attention(x, i, layer, kv)

    def _attention(self, x: Array, i: int, layer: Layer, kv: KeysAndValues) -> Array:
        c, blk, n = self.config, f"blk.{i}", len(x)
        heads, kv_heads, size = layer.heads, layer.kv_heads, layer.head_dim
        angles = None
        if layer.rope is not None:
            factors = self.weights[layer.rope.factors] if layer.rope.factors else None
            angles = layers.rope_angles(layer.rope, n, factors)

        def norm_and_rotate(t: Array, norm: str) -> Array:
            t = self._norm(t, norm)
            return t if layer.rope is None or angles is None else layers.rotate(t, angles, layer.rope)

        if f"{blk}.attn_qkv.weight" in self.weights:
            parts = np.cumsum([heads * size, kv_heads * size])
            q, k, v = np.split(self._linear(x, f"{blk}.attn_qkv"), parts, axis=1)
        else:
            q = self._linear(x, f"{blk}.attn_q")
        q = q.reshape(n, heads, -1)
        q, gate = q[..., :size], q[..., size:]  # qwen35: the gate of each head follows its query
        q = norm_and_rotate(q, f"{blk}.attn_q_norm")
        if c.temperature:
            growth = np.log(1 + np.floor(np.arange(n) / c.original_context))
            q = q * (1 + c.temperature * growth)[:, None, None]
        if layer.kv_layer == i:
            if f"{blk}.attn_k.weight" in self.weights:
                k = self._linear(x, f"{blk}.attn_k")
                v = self._linear(x, f"{blk}.attn_v") if f"{blk}.attn_v.weight" in self.weights else k
            k, v = k.reshape(n, kv_heads, size), v.reshape(n, kv_heads, size)
            if c.architecture == "gemma4":
                v = rms_norm(v, 1.0, c.epsilon)
            kv[i] = norm_and_rotate(k, f"{blk}.attn_k_norm"), v
        k, v = kv[layer.kv_layer]
        mixed = layers.attend(q, k, v, layer, layers.visible(n, c.causal, layer.window), c.attention_softcap)
        if gate.size:
            mixed = mixed * layers.sigmoid(gate)
        return self._linear(mixed.reshape(n, -1), f"{blk}.attn_output")

    def _delta_net(self, x: Array, blk: str) -> Array:
        """The gated delta net of qwen35 (arXiv:2412.06464), as the plain recurrence."""
        w, n = self.weights, len(x)
        size, value_heads, key_heads = (
            len(w[f"{blk}.ssm_norm.weight"]),
            len(w[f"{blk}.ssm_a"]),
            self.config.key_heads,
        )
        convolved = layers.causal_convolution(
            self._linear(x, f"{blk}.attn_qkv"), w[f"{blk}.ssm_conv1d.weight"]
        )
        qk, v = np.split(layers.silu(convolved), [2 * key_heads * size], axis=1)
        q, k = np.split(qk.reshape(n, 2 * key_heads, size), 2, axis=1)
        beta = layers.sigmoid(self._linear(x, f"{blk}.ssm_beta"))
        alpha = self._linear(x, f"{blk}.ssm_alpha") + w[f"{blk}.ssm_dt.bias"]
        decay = w[f"{blk}.ssm_a"] * layers.softplus(alpha)
        out = layers.delta_rule(q, k, v.reshape(n, value_heads, size), decay, beta)
        gate = self._linear(x, f"{blk}.attn_gate").reshape(n, value_heads, size)
        out = self._norm(out, f"{blk}.ssm_norm") * layers.silu(gate)
        return self._linear(out.reshape(n, -1), f"{blk}.ssm_out")

    def _short_convolution(self, x: Array, blk: str) -> Array:
        """The gated short convolution of lfm2."""
        b, c, x = np.split(self._linear(x, f"{blk}.shortconv.in_proj"), 3, axis=1)
        mixed = c * layers.causal_convolution(b * x, self.weights[f"{blk}.shortconv.conv.weight"])
        return self._linear(mixed, f"{blk}.shortconv.out_proj")

    def _feed_forward(self, x: Array, blk: str) -> Array:
        activation = layers.ACTIVATIONS[self.config.activation]
        if f"{blk}.ffn_gate_inp.weight" in self.weights:
            return self._experts(x, blk)
        up = self._linear(x, f"{blk}.ffn_up")
        if f"{blk}.ffn_gate.weight" in self.weights:
            up = activation(self._linear(x, f"{blk}.ffn_gate")) * up
        elif up.shape[1] == 2 * self.weights[f"{blk}.ffn_down.weight"].shape[1]:  # gate and up in one matrix
            gate, up = np.split(up, 2, axis=1)
            up = activation(gate) * up
        else:
            up = activation(up)
        return self._linear(up, f"{blk}.ffn_down")

    def _experts(self, x: Array, blk: str) -> Array:
        """Mixture of experts: the weights of the experts used sum to one."""
        w, c = self.weights, self.config
        scores = self._linear(x, f"{blk}.ffn_gate_inp")
        scores = layers.softmax(scores) if c.expert_gating == "softmax" else layers.sigmoid(scores)
        chosen = np.argsort(-(scores + w.get(f"{blk}.exp_probs_b.bias", 0.0)), axis=1)[:, : c.experts_used]
        out = np.zeros_like(x)
        for row, experts in enumerate(chosen):
            share = scores[row, experts] / scores[row, experts].sum()
            for expert, part in zip(experts, share, strict=True):
                gate = layers.silu(w[f"{blk}.ffn_gate_exps.weight"][expert] @ x[row])
                up = w[f"{blk}.ffn_up_exps.weight"][expert] @ x[row]
                out[row] += part * (w[f"{blk}.ffn_down_exps.weight"][expert] @ (gate * up))
        return out

    # ---- per-layer inputs of gemma4

    def _per_layer_inputs(self, tokens: list[int], x: Array) -> Array | None:
        """Returns (n, layers, size): from the token and from its scaled embedding."""
        w = self.weights
        if "per_layer_token_embd.weight" not in w:
            return None
        shape = len(tokens), len(self.config.layers), -1
        embedded = w["per_layer_token_embd.weight"][tokens].reshape(shape)
        projected = (self._linear(x, "per_layer_model_proj") / math.sqrt(x.shape[1])).reshape(shape)
        projected = self._norm(projected, "per_layer_proj_norm")
        return (projected + embedded * math.sqrt(embedded.shape[2])) / math.sqrt(2)

    def _add_per_layer_input(self, x: Array, i: int, values: Array) -> Array:
        gated = layers.gelu_tanh(self._linear(x, f"blk.{i}.inp_gate")) * values
        return x + self._norm(self._linear(gated, f"blk.{i}.proj"), f"blk.{i}.post_norm")


# ---- measures ----------------------------------------------------------------------------------------------


def log_softmax(x: npt.NDArray[Any]) -> Array:
    x = x.astype(np.float64)
    x = x - x.max(axis=-1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=-1, keepdims=True)))


def divergences(expected: npt.NDArray[Any], got: npt.NDArray[Any]) -> Array:
    """Returns KL(expected ‖ got) of next-token distributions, in nats, (n,), from logits (n, v)."""
    p, q = log_softmax(expected), log_softmax(got)
    return np.asarray(np.sum(np.exp(p) * (p - q), axis=-1))


def mean_kl(expected: npt.NDArray[Any], got: npt.NDArray[Any]) -> float:
    """Returns the mean of divergences(), in nats."""
    return float(divergences(expected, got).mean())


def top1_agreement(expected: npt.NDArray[Any], got: npt.NDArray[Any]) -> float:
    """Returns the share of positions where both have the same most likely token."""
    return float(np.mean(expected.argmax(axis=-1) == got.argmax(axis=-1)))
