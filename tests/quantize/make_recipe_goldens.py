"""Writes recipe_goldens.json: which type llama-quantize chooses for each tensor of several models.

    python tests/quantize/make_recipe_goldens.py PATH/TO/llama-quantize [MODEL.gguf …]

Needs llama.cpp's llama-quantize (of llama-cpp-python 0.3.36), run with --dry-run. The models are tiny
checkpoints of families, lists of tensors in the shapes of larger models, and the lists of the given files.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from recipe_models import (
    GOLDENS,
    TYPES,
    Tensors,
    draft_of,
    packed_tensors,
    packed_types,
)
from tiny_checkpoints import write_golden_family

from binhdan.quantize.convert import open_draft
from binhdan.quantize.draft import Draft
from binhdan.quantize.gguf_file import lay_out
from binhdan.quantize.keys import RawValue
from binhdan.quantize.recipes import RECIPES

_FAMILIES: Final = ("gemma3", "gemma4", "lfm2", "phi3", "qwen35", "qwen3moe", "xlm-roberta")
_LINE: Final = re.compile(
    r"\[ *\d+/ *\d+\] (\S+) +- \[.*\], type = +(\w+), size = +[\d.]+ MiB(?: -> +[\d.]+ MiB \((\w+)\))?"
)
_OURS: Final = ("small", "balanced", "best", "copy")
_NAMES: Final = [name for name in RECIPES if name not in _OURS]


def transformer(
    architecture: str, layers: int, heads: int, kv_heads: int, *, experts: int = 0, tied: bool = False
) -> Draft:
    """A model with rows of 256 and 512 values, which have room for every type."""
    a = architecture
    keys: dict[str, Any] = {
        "general.architecture": a,
        f"{a}.block_count": layers,
        f"{a}.context_length": 128,
        f"{a}.embedding_length": 256,
        f"{a}.feed_forward_length": 512,
        f"{a}.attention.head_count": heads,
        f"{a}.attention.head_count_kv": kv_heads,
        f"{a}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{a}.attention.layer_norm_epsilon": 1e-5,
    }
    tensors: Tensors = {"token_embd.weight": ((64, 256), "F16")}
    if not tied:
        tensors["output.weight"] = ((64, 256), "F16")
    stack, suffix = ((experts,), "_exps") if experts else ((), "")
    if experts:
        keys |= {f"{a}.expert_count": experts, f"{a}.expert_used_count": 2}
    for i in range(layers):
        attention = ("attn_qkv",) if a == "falcon" else ("attn_q", "attn_k", "attn_v")
        for name in (*attention, "attn_output"):
            tensors[f"blk.{i}.{name}.weight"] = ((256, 256), "F16")
        tensors[f"blk.{i}.attn_norm.weight"] = ((256,), "F32")
        if experts:
            tensors[f"blk.{i}.ffn_gate_inp.weight"] = ((experts, 256), "F32")
        tensors[f"blk.{i}.ffn_up{suffix}.weight"] = ((*stack, 512, 256), "F16")
        tensors[f"blk.{i}.ffn_down{suffix}.weight"] = ((*stack, 256, 512), "F16")
    return draft_of(keys, tensors)


_SHAPES: Final = {
    "llama 32 layers, 4 queries per key": lambda: transformer("llama", 32, 8, 2),
    "llama 22 layers, tied": lambda: transformer("llama", 22, 8, 8, tied=True),
    "llama 80 layers": lambda: transformer("llama", 80, 8, 1),
    "llama 8 experts": lambda: transformer("llama", 10, 8, 2, experts=8),
    "qwen2 5 layers": lambda: transformer("qwen2", 5, 8, 4),
    "falcon 20 layers": lambda: transformer("falcon", 20, 8, 1),
}


def chosen(tool: str, model: Path, recipe: str, imatrix: Path | None) -> dict[str, str]:
    command = [tool, "--dry-run", *(["--imatrix", imatrix] if imatrix else []), model, recipe]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-2][-150:])
    lines = _LINE.findall(done.stdout + done.stderr)
    return {name: (new or old).upper() for name, old, new in lines}


def write_header(draft: Draft, path: Path) -> None:
    """Writes a file whose data are zeros."""
    layout = lay_out(draft, {tensor.name: tensor.type for tensor in draft.tensors})
    with path.open("wb") as file:
        file.write(layout.header)
        file.truncate(layout.size)


def write_imatrix(path: Path) -> None:
    """Writes an imatrix in llama.cpp's format; only its presence counts for the choice."""
    writer = gguf.GGUFWriter(path, "")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["none"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 1)
    for part in ("in_sum2", "counts"):
        writer.add_tensor(f"none.weight.{part}", np.ones((1, 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def golden(draft: Draft, tool: str, folder: Path) -> dict[str, Any]:
    a = draft.architecture
    keys = {"general.architecture": a}
    for name in ("block_count", "attention.head_count", "attention.head_count_kv", "expert_count"):
        if f"{a}.{name}" in draft.keys:
            keys[f"{a}.{name}"] = draft.keys[f"{a}.{name}"].value
    packed = packed_tensors({t.name: (t.shape, t.type) for t in draft.tensors})
    model, imatrix = folder / "model.gguf", folder / "imatrix.gguf"
    # a vocabulary is not needed, and long ones make the file slow to read
    texts = {name: key for name, key in draft.keys.items() if not name.startswith("tokenizer.")}
    write_header(replace(draft, keys=texts | {"tokenizer.ggml.model": RawValue.of("no_vocab")}), model)
    write_imatrix(imatrix)
    types: dict[str, dict[str, str]] = {}
    for name in _NAMES:
        try:
            types[name] = packed_types(chosen(tool, model, name, None), packed)
        except RuntimeError as error:  # llama-quantize has no other type for rows of partial blocks
            print(f"{name}: {error}")
            continue
        with_imatrix = packed_types(chosen(tool, model, name, imatrix), packed)
        if with_imatrix != types[name]:
            types[f"{name}+imatrix"] = with_imatrix
    return {"keys": keys, "tensors": packed, "types": types}


def main(tool: str, files: list[str]) -> None:
    goldens = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for family in _FAMILIES:
            print(family)
            goldens[family] = golden(open_draft(write_golden_family(folder / family, family)), tool, folder)
        for name, make in _SHAPES.items():
            print(name)
            goldens[name] = golden(make(), tool, folder)
        for file in files:
            print(file)
            draft = open_draft(Path(file))
            # as from an F16 file
            tensors = [replace(t, type="F32" if t.type == "F32" else "F16") for t in draft.tensors]
            goldens[Path(file).stem] = golden(replace(draft, tensors=tensors), tool, folder)
    assert set(TYPES.values()) >= {recipe.type for recipe in RECIPES.values() if recipe.type}
    lines = [f'"{name}": {json.dumps(value, separators=(",", ":"))}' for name, value in goldens.items()]
    GOLDENS.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
