"""Tiny random models for tests: GGUF files of every architecture × type, and Hugging Face checkpoints.

All values derive from tensor names and a seed through the raw stream of PCG64. numpy guarantees that this
stream never changes, so the committed goldens stay valid.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import family_checkpoints
import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from tiny_families import ARCHITECTURES as ARCHITECTURES
from tiny_families import FAMILIES as FAMILIES
from tiny_families import Shape as Shape
from tiny_families import keys, tensor_dims

Floats = npt.NDArray[np.float32]
# Matrices that llama.cpp never quantizes.
FLOAT_TENSORS: Final = ("ssm_conv1d", "shortconv.conv.", "position_embd", "token_types", "ffn_gate_inp")


TYPES: Final = (
    "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
    "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4", "IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S",
)  # fmt: skip


# ---- random numbers ----------------------------------------------------------------------------------------


def random_bytes(name: str, count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    raw = np.random.PCG64(zlib.crc32(name.encode()) + (seed << 32)).random_raw((count + 7) // 8)
    return np.asarray(raw, "<u8").view(np.uint8)[:count].copy()


def uniform(name: str, shape: tuple[int, ...], limit: float, seed: int = 0) -> Floats:
    """Returns values in [-limit, limit) that F16 represents exactly."""
    raw = random_bytes(name, 4 * int(np.prod(shape)), seed).view("<u4").astype(np.float64)
    return ((raw / 2**31 - 1) * limit).astype(np.float16).astype(np.float32).reshape(shape)


def random_tensor(name: str, shape: tuple[int, ...], seed: int = 0) -> Floats:
    """Returns weights that keep activations near 1: norms near 1, matrices of about 1 / sqrt(row length)."""
    if name.endswith("norm.bias"):
        return uniform(name, shape, 0.5, seed)
    if name.endswith("ssm_a"):  # -exp(A_log)
        return -0.5 + uniform(name, shape, 0.4, seed)
    if name == "rope_freqs.weight":  # gemma4: a quarter of the pairs is rotated
        return np.where(np.arange(shape[0]) < shape[0] // 4, 1, 1e30).astype(np.float32)
    if "rope_factors" in name:
        return np.geomspace(1, 8 if "long" in name else 2, shape[0], dtype=np.float32)
    if "norm" in name or "scale" in name:
        return (1 + uniform(name, shape, 0.25, seed)).astype(np.float16).astype(np.float32)
    if len(shape) == 1:
        return uniform(name, shape, 0.5, seed)
    return uniform(name, shape, 2.5 / shape[-1] ** 0.5, seed)


# Scales of a block: offsets of d and dmin in bytes, and the ratio dmin / d that brings the mean near zero.
_SCALE_LAYOUT: Final = {
    "Q2_K": (80, 82, 1.5), "Q3_K": (108, None, 0.0), "Q4_K": (0, 2, 7.5), "Q5_K": (0, 2, 15.5),
    "Q6_K": (208, None, 0.0), "IQ4_NL": (0, None, 0.0), "IQ4_XS": (0, None, 0.0), "IQ1_S": (0, None, 0.0),
    "IQ2_XXS": (0, None, 0.0), "IQ2_XS": (0, None, 0.0), "IQ2_S": (0, None, 0.0), "IQ3_XXS": (0, None, 0.0),
    "IQ3_S": (0, None, 0.0),
}  # fmt: skip


def random_blocks(
    name: str, shape: tuple[int, int], type: str, deviation: float, seed: int = 0
) -> npt.NDArray[np.uint8]:
    """Returns random blocks of a type that gguf-py cannot encode, (rows, bytes), scaled to `deviation`."""
    kind = GGMLQuantizationType[type]
    block, size = GGML_QUANT_SIZES[kind]
    d_offset, dmin_offset, ratio = _SCALE_LAYOUT[type]
    blocks = random_bytes(name, shape[0] * shape[1] // block * size, seed).reshape(-1, size)

    def set_scale(d: npt.NDArray[np.float64]) -> None:
        blocks[:, d_offset : d_offset + 2] = d.astype("<f2").view(np.uint8).reshape(-1, 2)
        if dmin_offset is not None:
            dmin = (d * ratio).astype("<f2")
            blocks[:, dmin_offset : dmin_offset + 2] = dmin.view(np.uint8).reshape(-1, 2)

    set_scale(np.ones(len(blocks)))
    unit = float(gguf.dequantize(blocks[:256], kind).std())
    spread = 1 + uniform(name + ".d", (len(blocks),), 0.5, seed).astype(np.float64)
    set_scale(spread * deviation / unit)
    return blocks.reshape(shape[0], -1)


# ---- vocabularies ------------------------------------------------------------------------------------------

_TEXT: Final = (
    "Hà Nội là thủ đô của Việt Nam. Thành phố Hồ Chí Minh là thành phố lớn nhất. "
    "ha noi la thu do cua viet nam. "
    "Trăm năm trong cõi người ta, chữ tài chữ mệnh khéo là ghét nhau. người là, của và có không được cho một "
)
SPECIALS: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


@cache
def byte_alphabet() -> dict[int, str]:
    """Returns GPT-2's printable characters for the 256 bytes."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


def learn_merges(words: list[list[str]], count: int) -> list[tuple[str, str]]:
    """Learns `count` BPE merges (Sennrich et al. 2016): each merges the most frequent pair of `words`."""
    merges: list[tuple[str, str]] = []
    for _ in range(count):
        pairs = Counter(pair for word in words for pair in pairwise(word))
        left, right = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append((left, right))
        for word in words:
            i = 0
            while i + 1 < len(word):
                if (word[i], word[i + 1]) == (left, right):
                    word[i : i + 2] = [left + right]
                i += 1
    return merges


@cache
def byte_level_vocabulary() -> tuple[list[str], list[tuple[str, str]]]:
    """Returns (tokens, merges): 320 tokens = 3 special tokens + 256 bytes + 61 merges."""
    alphabet = byte_alphabet()
    words = [[alphabet[b] for b in (" " + word).encode()] for word in _TEXT.split()]
    merges = learn_merges(words, 61)
    return [*SPECIALS, *alphabet.values(), *(a + b for a, b in merges)], merges


@cache
def sentencepiece_vocabulary() -> tuple[list[str], list[tuple[str, str]]]:
    """Returns (tokens, merges): 384 tokens = <unk>, <s>, </s>, 256 bytes, merges and characters."""
    words = [list("▁" + word) for word in _TEXT.split()]
    characters = sorted({c for word in words for c in word})
    merges = learn_merges(words, 384 - 259 - len(characters))
    head = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
    return [*head, *(a + b for a, b in merges), *characters], merges


CHATML: Final = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def vocabulary_size(kind: str) -> int:
    return len((byte_level_vocabulary if kind == "gpt2" else sentencepiece_vocabulary)()[0])


def _write_vocabulary(
    writer: gguf.GGUFWriter, kind: str, chat_template: str | None, specials: tuple[str, str, str]
) -> None:
    writer.add_tokenizer_model(kind)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    if kind == "gpt2":
        tokens, merges = byte_level_vocabulary()
        writer.add_tokenizer_pre("qwen2")
        writer.add_token_list([*specials, *tokens[len(specials) :]])
        writer.add_token_types([3] * len(SPECIALS) + [1] * (len(tokens) - len(SPECIALS)))
        writer.add_token_merges([f"{a} {b}" for a, b in merges])
        writer.add_eos_token_id(2)
        writer.add_pad_token_id(0)
        writer.add_add_bos_token(False)
        if specials != SPECIALS:
            writer.add_bos_token_id(0)
        if chat_template is None:
            writer.add_chat_template(CHATML)
        return
    tokens, merges = sentencepiece_vocabulary()
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 259 + [-float(i) for i in range(len(tokens) - 259)])
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * (len(tokens) - 259))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)


# ---- GGUF --------------------------------------------------------------------------------------------------


def tensor_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Returns GGUF names → (rows, row length), or (length,)."""
    return tensor_dims(shape, vocabulary_size(shape.vocabulary))


def write_gguf(
    path: Path,
    shape: Shape,
    *,
    chat_template: str | None = None,
    specials: tuple[str, str, str] = SPECIALS,
) -> Path:
    """Writes a GGUF file with random weights. Returns `path`.

    `chat_template`: None for CHATML in a byte-level vocabulary and no template in others. `specials`: the
    control tokens of a byte-level vocabulary; with other values than SPECIALS the prompt begins with BOS.
    """
    s = shape
    writer = gguf.GGUFWriter(path, s.architecture)
    writer.add_name(f"tiny-{s.architecture}-{s.type}")
    for key, value in keys(s).items():
        _write_key(writer, f"{s.architecture}.{key}", value)
    writer.add_vocab_size(vocabulary_size(s.vocabulary))
    if s.architecture == "bert":
        writer.add_token_type_count(2)
    _write_vocabulary(writer, s.vocabulary, chat_template, specials)
    for name, dims in tensor_shapes(s).items():
        data, kind = _encode(name, dims, s)
        writer.add_tensor(name, data, raw_dtype=kind)
    if s.rope == "llama3":
        factors = np.geomspace(1, 8, s.head_dim // 2, dtype=np.float32)
        writer.add_tensor("rope_freqs.weight", factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_key(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_string(key, value)


def _values(name: str, dims: tuple[int, ...], s: Shape) -> Floats:
    values = random_tensor(name, dims, s.seed)
    return values * np.float32(s.family.q_norm_scale) if "attn_q_norm" in name else values


def _encode(name: str, dims: tuple[int, ...], s: Shape) -> tuple[npt.NDArray[Any], GGMLQuantizationType]:
    if len(dims) == 1 or any(part in name for part in FLOAT_TENSORS):
        return _values(name, dims, s), GGMLQuantizationType.F32
    kind = GGMLQuantizationType[s.type]
    if s.type in _SCALE_LAYOUT:
        deviation = float(random_tensor(name, dims, s.seed).std())
        rows = int(np.prod(dims[:-1]))
        blocks = random_blocks(name, (rows, dims[-1]), s.type, deviation, s.seed)
        return blocks.reshape(*dims[:-1], -1), kind
    return gguf.quantize(random_tensor(name, dims, s.seed), kind), kind


# ---- Hugging Face checkpoints ------------------------------------------------------------------------------

QWEN2_REGEX: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SMALL: Final = Shape(width=64, feed_forward=128, heads=4, kv_heads=2, head_dim=16, context=128)

# The checkpoints of the goldens by transformers and llama.cpp.
GOLDEN_SHAPES: Final = {
    "llama": replace(SMALL, architecture="llama"),
    "llama-spm-tied": replace(SMALL, architecture="llama", vocabulary="llama", tied=True),
    "llama-linear": replace(SMALL, architecture="llama", rope="linear"),
    "llama-llama3": replace(SMALL, architecture="llama", rope="llama3"),
    "qwen2": replace(SMALL, architecture="qwen2", tied=True),
    "qwen2-yarn": replace(SMALL, architecture="qwen2", rope="yarn"),
    "qwen3": replace(SMALL, architecture="qwen3", head_dim=32),
}


# Those of the other families: prompts of 100 tokens, on the weights of the GGUF file.
FAMILY_GOLDEN_SHAPES: Final = {
    "llama-biases": Shape(variant="biases"),
    "gemma": Shape("gemma"),
    "gemma2": Shape("gemma2"),
    "gemma3": Shape("gemma3"),
    "gemma3-pattern": Shape("gemma3", variant="pattern"),
    "gemma3-linear": Shape("gemma3", rope="linear"),
    "gemma4": Shape("gemma4"),
    "gemma4-no-v": Shape("gemma4", variant="no_v"),
    "phi3": Shape("phi3"),
    "phi3-window": Shape("phi3", variant="window"),
    "smollm3": Shape("smollm3"),
    "granite": Shape("granite"),
    "mistral3": Shape("mistral3"),
    "lfm2": Shape("lfm2"),
    "qwen35": Shape("qwen35"),
    "bert": Shape("bert"),
    "gemma-embedding": Shape("gemma-embedding"),
    "qwen3moe": Shape("qwen3moe"),
    "lfm2moe": Shape("lfm2moe"),
}


def _has_gguf_weights(shape: Shape) -> bool:
    """Returns whether the checkpoint has the weights of the GGUF file; that of ARCHITECTURES has its own."""
    return shape.architecture not in ARCHITECTURES or shape.variant != ""


def gguf_tensors(shape: Shape) -> dict[str, Floats]:
    """Returns the values of an F32 file of `shape`."""
    return {name: _values(name, dims, shape) for name, dims in tensor_shapes(shape).items()}


def hf_config(shape: Shape) -> dict[str, Any]:
    """Returns config.json; of ARCHITECTURES, as transformers 4 writes it."""
    s = shape
    if _has_gguf_weights(s):
        return family_checkpoints.hf_config(s, vocabulary_size(s.vocabulary), gguf_tensors(s))
    scaling: dict[str, Any] | None = {
        "default": None,
        "linear": {"rope_type": "linear", "factor": 4.0},
        "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
        "llama3": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    }[s.rope]  # fmt: skip
    spm = s.vocabulary == "llama"
    return {
        "architectures": [FAMILIES[s.architecture].hf_class], "model_type": s.architecture,
        "hidden_act": "silu",
        "hidden_size": s.width, "intermediate_size": s.feed_forward, "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads, "num_key_value_heads": s.kv_heads, "head_dim": s.head_dim,
        "max_position_embeddings": s.context, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "rope_scaling": scaling, "tie_word_embeddings": s.is_tied,
        "vocab_size": vocabulary_size(s.vocabulary),
        "bos_token_id": 1 if spm else None, "eos_token_id": 2,
    }  # fmt: skip


def hf_tensors(shape: Shape) -> dict[str, Floats]:
    """Returns Hugging Face names → values, of ARCHITECTURES all exact in F16."""
    if _has_gguf_weights(shape):
        return family_checkpoints.hf_tensors(shape, gguf_tensors(shape))
    names = {
        "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
        "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
        "attn_k_norm": "self_attn.k_norm", "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    }  # fmt: skip
    out: dict[str, Floats] = {}
    for name, dims in tensor_shapes(shape).items():
        *block, part, kind = name.split(".")
        prefix = f"model.layers.{block[1]}." if block else ""
        hf_name = f"{prefix}{names[part]}.{kind}"
        out[hf_name] = random_tensor(hf_name, dims, shape.seed)
    return out


def hf_tokenizer(kind: str) -> dict[str, Any]:
    """Returns tokenizer.json."""
    byte_level = kind == "gpt2"
    tokens, merges = byte_level_vocabulary() if byte_level else sentencepiece_vocabulary()
    specials = SPECIALS if byte_level else ("<unk>", "<s>", "</s>")
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    split = {"type": "Split", "pattern": {"Regex": QWEN2_REGEX}, "behavior": "Isolated", "invert": False}
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    to_sp = [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ]
    from_sp = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]  # fmt: skip
    bos = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": text, **flags} for i, text in enumerate(specials)],
        "normalizer": {"type": "NFC"} if byte_level else {"type": "Sequence", "normalizers": to_sp},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytes_]} if byte_level else None,
        "post_processor": None if byte_level else bos,
        "decoder": bytes_ if byte_level else {"type": "Sequence", "decoders": from_sp},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None if byte_level else "<unk>",
            "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": not byte_level,
            "byte_fallback": not byte_level, "ignore_merges": False,
            "vocab": {text: i for i, text in enumerate(tokens)}, "merges": [list(pair) for pair in merges],
        },
    }  # fmt: skip


def write_checkpoint(folder: Path, shape: Shape, *, shards: int = 1, dtype: str = "F16") -> Path:
    """Writes a Hugging Face checkpoint with its weights in ``shards`` files. Returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    spm = shape.vocabulary == "llama"
    tokenizer_config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>" if spm else None,
        "eos_token": "</s>" if spm else "<|im_end|>",
        "unk_token": "<unk>" if spm else None,
        "pad_token": None if spm else "<|endoftext|>",
    }
    if not spm:
        tokenizer_config["chat_template"] = CHATML
    files = {
        "config.json": hf_config(shape), "tokenizer.json": hf_tokenizer(shape.vocabulary),
        "tokenizer_config.json": tokenizer_config, "generation_config.json": {"eos_token_id": [2]},
    }  # fmt: skip
    if shape.family.encoder:
        values = gguf_tensors(shape)
        files |= family_checkpoints.sentence_transformers_files(shape, values)
        for module, dense in family_checkpoints.dense_tensors(values).items():
            (folder / module).mkdir(exist_ok=True)
            write_safetensors(folder / module / "model.safetensors", dense, dtype)
    for name, value in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value, ensure_ascii=False), "utf-8")
    tensors = hf_tensors(shape)
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors, dtype)
        return folder
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: value for i, (name, value) in enumerate(tensors.items()) if i % shards == shard}
        write_safetensors(folder / file, part, dtype)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    return folder


def write_safetensors(path: Path, tensors: dict[str, Floats], dtype: str = "F32") -> None:
    """Writes a safetensors file. Not the safetensors package, which needs torch for bfloat16."""
    header: dict[str, Any] = {}
    parts: list[bytes] = []
    size = 0
    for name, values in tensors.items():
        if dtype == "BF16":
            raw = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
        else:
            raw = values.astype({"F64": "<f8", "F32": "<f4", "F16": "<f2"}[dtype]).tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(values.shape),
            "data_offsets": [size, size + len(raw)],
        }
        parts.append(raw)
        size += len(raw)
    text = json.dumps(header).encode()
    path.write_bytes(b"".join([len(text).to_bytes(8, "little"), text, *parts]))
