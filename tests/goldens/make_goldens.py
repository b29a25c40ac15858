"""Regenerates the committed golden values: what transformers and llama.cpp compute on small checkpoints.

    pip install torch --index-url https://download.pytorch.org/whl/cpu && pip install '.[goldens]'
    python tests/goldens/make_goldens.py [--check] [--only NAME …]

Writes
- NAME.npz for every checkpoint of tiny_models.GOLDEN_SHAPES: `tokens` (n), `logits_transformers` and
  `logits_llama_cpp` (the last 8 positions, v), `greedy` (16, both agree);
- families/NAME.npz for tiny_models.FAMILY_GOLDEN_SHAPES: `tokens` (n), `positions`, and at these positions
  `values` by transformers (logits, or hidden states of an encoder) and `llama_cpp` (logits). The weights are
  those of the GGUF file; family_checkpoints.py writes them as a checkpoint;
- tokenizers.json, the ids that the tokenizers package returns for TEXTS;
- embedded.json, the greedy answers of transformers with the weights of the embedded model's file in float32,
  and the smallest gap between the oracle's two best logits in each answer. With a small gap, a runtime that
  rounds activations may choose either token.
--check compares the result with the committed files and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import tokenizers
import torch
import transformers

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import tiny_models  # noqa: E402
from embedded_goldens import MAX_TOKENS  # noqa: E402
from family_checkpoints import hf_tensors  # noqa: E402
from reference_forward import ReferenceModel, mean_kl  # noqa: E402

from binhdan.quantize.convert import convert  # noqa: E402
from binhdan.runtime.client.model import embedded_model  # noqa: E402

POSITIONS = 8  # of the logits that are kept
FAMILY_PROMPT = 100  # tokens: more than a window, a KV page and the original context of RoPE scaling
FAMILY_POSITIONS = [0, 1, 23, 24, 25, 63, 64, 99]  # of the values that are kept
LLAMA_CPP_DIFFERS = ("phi3-window",)  # it ignores the window of phi3
EMBEDDED = embedded_model()
CHECKPOINT = HERE.parents[1] / "examples/train_tiny_vi/checkpoint"  # the source of EMBEDDED
PROMPTS = (
    "them dau: ha noi la thu do cua viet nam",
    "Thêm dấu: troi hom nay rat dep",
    "Thêm dấu tiếng Việt: chung toi di hoc bang xe dap",
    "them dau cho cau sau: me toi nau com rat ngon",
    "Khôi phục dấu: Nguyen Trai la nha tho lon cua dan toc",
    "Hãy thêm dấu vào câu này:\ntram nam trong coi nguoi ta",
    "thêm dấu: Ha Noi mua nay vang nhung con mua",
    "Viết lại có dấu: thanh pho Ho Chi Minh la thanh pho lon nhat Viet Nam",
    "Thêm dấu cho câu sau: song Hong chay qua nhieu tinh",
    "them dau: nguoi dan co quyen duoc hoc tap",
    "Xin chào",
    "Tạm biệt",
    "Bạn tên là gì?",
    "Bạn là ai?",
    "Bạn làm được gì?",
    "Cảm ơn bạn",
    "Hà Nội là gì?",
    "Đoạn sau nói về gì?\nSông Hồng chảy qua Hà Nội rồi đổ ra biển Đông.",
    "Sửa chính tả: Tôi đi họk ở chường đại học Hà Lội",
    "Viết lại đầy đủ: mk k bik j het",
    "Trích xuất JSON: Ngày 2 tháng 9 năm 1945, Hồ Chí Minh đọc Tuyên ngôn Độc lập.",
    "Tách từ: học sinh đi học ở thành phố Hồ Chí Minh",
)
TEXTS = (
    "",
    " ",
    "Hà Nội là thủ đô của Việt Nam.",
    "ha noi la thu do cua viet nam",
    "  hai dấu cách,\tmột tab\n\nvà hai dòng\r\n mới   ",
    "HOÀ BÌNH hòa bình hoà bình Đường Ðường",
    "năm 2026 có 1.234.567 người, tăng 12,5%",
    "It's a test, isn't it? I'LL see",
    "người\u00a0ta\u2003và\u3000không",
    "日本語 and ไทย và ქართული 😀👩‍👩‍👧",
    "a" * 50,
    "<|im_start|>user\nXin chào<|im_end|>",
    "</s><s>▁gạch▁dưới",
)


def prompt_tokens(shape: tiny_models.Shape, count: int = 40) -> list[int]:
    """Returns pseudo-random ids from the whole vocabulary without the control tokens."""
    raw = tiny_models.random_bytes("prompt", 4 * count).view("<u4")
    return [3 + int(r) % (tiny_models.vocabulary_size(shape.vocabulary) - 3) for r in raw]


def run_transformers(folder: Path, tokens: list[int], steps: int) -> tuple[np.ndarray[Any, Any], list[int]]:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    greedy: list[int] = []
    with torch.inference_mode():
        logits = model(torch.tensor([tokens])).logits[0]
        while len(greedy) < steps:
            greedy.append(int(model(torch.tensor([tokens + greedy])).logits[0, -1].argmax()))
    return logits[-POSITIONS:].numpy(), greedy


def run_family(folder: Path, tokens: list[int]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Returns logits and hidden states by transformers; logits are empty for encoders."""
    config = transformers.AutoConfig.from_pretrained(folder)
    encoder = config.architectures[0] in ("BertModel", "Gemma3TextModel")
    kind = transformers.AutoModel if encoder else transformers.AutoModelForCausalLM
    model, info = kind.from_pretrained(
        folder,
        dtype=torch.float64,
        attn_implementation="eager",
        experts_implementation="eager",
        output_loading_info=True,
    )
    unused = [key for key in info["missing_keys"] if "pooler" not in key]  # BERT's pooler is not used
    if unused or info["unexpected_keys"] or info["mismatched_keys"]:
        raise SystemExit(f"{folder.name}: the weights do not fit the model: {info}")
    with torch.inference_mode():
        out = model(torch.tensor([tokens]), use_cache=False, output_hidden_states=True)
    if encoder:
        return np.zeros(0), out.last_hidden_state[0].numpy()
    return out.logits[0].numpy(), out.hidden_states[-1][0].numpy()


def make_family(name: str, shape: tiny_models.Shape) -> dict[str, Any]:
    """Returns what transformers and llama.cpp compute on the weights of the GGUF file."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = tiny_models.write_checkpoint(Path(folder) / name, shape, dtype="F32")
        file = tiny_models.write_gguf(Path(folder) / "out.gguf", shape)
        tokens = prompt_tokens(shape, FAMILY_PROMPT)
        logits, hidden = run_family(checkpoint, tokens)
        oracle = ReferenceModel(file)
        expected = hidden if shape.family.encoder else logits
        ours = oracle.hidden(tokens) if shape.family.encoder else oracle.logits(tokens)
        kept = {"values": expected[FAMILY_POSITIONS].astype(np.float32)}
        print(f"{name}: oracle differs by {np.abs(ours - expected).max():.1e}")
        if not shape.family.encoder and name not in LLAMA_CPP_DIFFERS:
            cpp = llama_cpp_logits(file, tokens)
            kept["llama_cpp"] = cpp[FAMILY_POSITIONS].astype(np.float32)
            print(f"{name}: KL of llama.cpp {mean_kl(expected, cpp):.1e}")
    return {"tokens": np.array(tokens, np.int32), "positions": np.array(FAMILY_POSITIONS), **kept}


def llama_cpp_logits(file: Path, tokens: list[int]) -> np.ndarray[Any, Any]:
    # A context over 64 chooses the long RoPE factors of phi3. -1: as in the file, not the package's default.
    model = llama_cpp.Llama(
        str(file),
        n_ctx=256,
        n_threads=1,
        logits_all=True,
        verbose=False,
        kv_overrides={"general.name": "tiny"},  # llama.cpp edits the vocabulary of models named phi3
        yarn_beta_fast=-1.0,
        yarn_beta_slow=-1.0,
    )
    model.eval(tokens)
    return np.array(model.scores[: len(tokens)])


def run_llama_cpp(file: Path, tokens: list[int], steps: int) -> tuple[np.ndarray[Any, Any], list[int]]:
    model = llama_cpp.Llama(str(file), n_ctx=128, n_threads=1, logits_all=True, verbose=False)
    model.eval(tokens)
    logits = np.array(model.scores[: len(tokens)])[-POSITIONS:]
    greedy: list[int] = []
    while len(greedy) < steps:
        greedy.append(int(np.argmax(model.scores[model.n_tokens - 1])))
        model.eval(greedy[-1:])
    return logits, greedy


def make_small(name: str, shape: tiny_models.Shape) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = tiny_models.write_checkpoint(Path(folder) / name, shape)
        file = Path(folder) / "out.gguf"
        convert(checkpoint, file, "f32")
        tokens = prompt_tokens(shape)
        torch_logits, torch_greedy = run_transformers(checkpoint, tokens, 16)
        cpp_logits, cpp_greedy = run_llama_cpp(file, tokens, 16)
    print(f"{name}: KL {mean_kl(torch_logits, cpp_logits):.2e}, greedy equal: {torch_greedy == cpp_greedy}")
    if torch_greedy != cpp_greedy:
        raise SystemExit(
            f"{name}: transformers and llama.cpp disagree; find the cause or choose another seed"
        )
    return {
        "tokens": np.array(tokens, np.int32),
        "logits_transformers": torch_logits.astype(np.float32),
        "logits_llama_cpp": cpp_logits.astype(np.float32),
        "greedy": np.array(torch_greedy, np.int32),
    }


def make_tokenizers() -> dict[str, Any]:
    """Returns TEXTS (all NFC) and their ids by the tokenizers package: control tokens parsed, no BOS."""
    with tempfile.TemporaryDirectory() as folder:
        files = {"embedded": CHECKPOINT / "tokenizer.json"}
        for kind in ("gpt2", "llama"):
            files[kind] = Path(folder) / f"{kind}.json"
            files[kind].write_text(json.dumps(tiny_models.hf_tokenizer(kind)), "utf-8")
        loaded = {name: tokenizers.Tokenizer.from_file(str(file)) for name, file in files.items()}
    ids = {n: [t.encode(text, add_special_tokens=False).ids for text in TEXTS] for n, t in loaded.items()}
    return {"texts": list(TEXTS), "ids": ids}


def make_embedded(limit: int = MAX_TOKENS) -> list[dict[str, Any]]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(CHECKPOINT)
    model = transformers.AutoModelForCausalLM.from_pretrained(CHECKPOINT, dtype=torch.float32)
    oracle = ReferenceModel(EMBEDDED)
    weights = hf_tensors(tiny_models.GOLDEN_SHAPES["qwen3"], oracle.weights)
    found = model.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()}, strict=False)
    assert found.missing_keys == ["lm_head.weight"] and not found.unexpected_keys  # the output is tied
    out = []
    for prompt in PROMPTS:
        messages = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
        with torch.inference_mode():
            answer = model.generate(ids, max_new_tokens=limit, do_sample=False)[0, ids.shape[1] :].tolist()
        tokens = ids[0].tolist()
        logits = oracle.logits(tokens + answer)[len(tokens) - 1 : -1]
        best = np.take_along_axis(logits, np.array(answer)[:, None], axis=1)[:, 0]
        np.put_along_axis(logits, np.array(answer)[:, None], -np.inf, axis=1)
        out.append(
            {
                "prompt": prompt,
                "tokens": tokens,
                "transformers": tokenizer.decode(answer, skip_special_tokens=True),
                "gap": round(float((best - logits.max(axis=1)).min()), 3),
            }
        )
        print(out[-1])
    return out


def check(name: str, made: dict[str, Any]) -> None:
    with np.load(HERE / f"{name}.npz") as committed:
        assert set(made) == set(committed), f"{name}: {set(made) ^ set(committed)}"
        for key, value in made.items():
            tolerance = 2e-2 if value.dtype == np.float32 else 0
            np.testing.assert_allclose(value, committed[key], atol=tolerance, err_msg=f"{name} {key}")


def without_gaps(value: Any) -> Any:
    """Removes the gaps of the answers: their last digits depend on the machine."""
    return [{**answer, "gap": None} for answer in value] if isinstance(value, list) else value


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="checkpoints whose name starts with NAME")
    options = parser.parse_args()
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        name: partial(make_small, name, shape) for name, shape in tiny_models.GOLDEN_SHAPES.items()
    }
    makers |= {
        f"families/{name}": partial(make_family, name, shape)
        for name, shape in tiny_models.FAMILY_GOLDEN_SHAPES.items()
    }
    for name, make in makers.items():
        if options.only and not name.startswith(tuple(options.only)):
            continue
        made = make()
        if options.check:
            check(name, made)
        else:
            np.savez_compressed(HERE / f"{name}.npz", **made)
    if options.only:
        return
    answers = {"tokenizers.json": make_tokenizers(), "embedded.json": make_embedded()}
    for file, value in answers.items():
        if options.check:
            committed = json.loads((HERE / file).read_text("utf-8"))
            assert without_gaps(value) == without_gaps(committed), f"{file} differs from the committed file"
        else:
            (HERE / file).write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
