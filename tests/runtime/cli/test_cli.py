"""runtime/cli: output, errors and exit codes of the commands."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from adapters import embedded_adapter
from gguf_edit import with_metadata

import binhdan

COMMAND = [sys.executable, "-m", "binhdan"]
PROMPT = "them dau: ha noi la thu do cua viet nam"
ANSWER = "hà nội là thủ đô của việt nam"
# Repeats itself until the context is full. The output exceeds the pipe, so the command waits for its reader.
ENDLESS = ["ask", "--raw", "--repetition-penalty", "0.01", "Việt Nam"]
SMALL_PIPES: dict[str, Any] = {
    "stdout": subprocess.PIPE,
    "stderr": subprocess.PIPE,
    "bufsize": 0,
    "pipesize": 4096,
}


def run(
    *arguments: str | bytes, stdin: bytes = b"", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | (env or {})
    return subprocess.run(
        [*COMMAND, *arguments], input=stdin, env=environment, capture_output=True, timeout=120
    )


def text_of(*arguments: str | bytes, stdin: bytes = b"") -> str:
    done = run(*arguments, stdin=stdin)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def complaint(*arguments: str | bytes, stdin: bytes = b"", code: int = 1) -> str:
    """The only line on standard error of a command that fails."""
    done = run(*arguments, stdin=stdin)
    assert done.returncode == code and done.stdout == b""
    line = done.stderr.decode()
    assert line.startswith("binhdan: ") and line.endswith("\n") and line.count("\n") == 1, line
    return line


# ---- ask ---------------------------------------------------------------------------------------------------


def test_ask_with_an_adapter(tmp_path: Path) -> None:
    file = embedded_adapter(tmp_path / "thơ.gguf")
    assert text_of("ask", "--adapter", str(file), "--max-tokens", "20", PROMPT) != ANSWER + "\n"
    assert "no such file" in complaint("ask", "--adapter", str(tmp_path / "none.gguf"), PROMPT).lower()


def test_ask() -> None:
    done = run("ask", PROMPT)
    assert done.stdout.decode() == ANSWER + "\n" and done.stderr == b"" and done.returncode == 0


@pytest.mark.parametrize("arguments", [("ask", "-"), ("ask",)])
def test_ask_standard_input(arguments: tuple[str, ...]) -> None:
    assert text_of(*arguments, stdin=PROMPT.encode() + b"\n") == ANSWER + "\n"


def test_ask_json() -> None:
    answer = json.loads(text_of("ask", "--json", "--max-tokens", "3", PROMPT))
    assert answer["text"] == "hà nội" and answer["finish_reason"] == "length"
    assert answer["prompt_tokens"] == 23 and answer["answer_tokens"] == 3 and answer["ttft_ms"] > 0
    assert answer["decode_tokens_per_s"] > 0 and answer["model"].endswith(".gguf")


def test_ask_with_options(model: binhdan.Model) -> None:
    options = ["--temperature", "1", "--seed", "3", "--max-tokens", "8", "--threads", "1", "--stop", "zzz"]
    expected = model.ask("xin chào", system="Vui", temperature=1, seed=3, max_tokens=8).text
    assert text_of("ask", *options, "--system", "Vui", "xin chào") == expected + "\n"
    assert (
        text_of("ask", "--raw", "--max-tokens", "4", "Hà Nội là")
        == model.complete("Hà Nội là", max_tokens=4).text + "\n"
    )


def test_speed_goes_to_a_terminal_only() -> None:
    ours, child = pty.openpty()
    prompt = PROMPT.replace("them dau", "Khôi phục dấu")  # "them dau: …" needs no model
    done = subprocess.run([*COMMAND, "ask", prompt], stdout=subprocess.PIPE, stderr=child, timeout=120)
    os.close(child)
    shown = os.read(ours, 4096).decode()
    os.close(ours)
    assert done.stdout.decode() == ANSWER + "\n"
    assert re.fullmatch(r"first token \d+ ms, [\d.]+ tokens/s, \d+ \+ \d+ tokens\r\n", shown), shown


def test_ask_restores_as_restore_does() -> None:
    text = "toi muon mua mot cai xe dap cho con gai"
    done = subprocess.run([*COMMAND, "ask", f"Thêm dấu: {text}"], capture_output=True, timeout=120)
    assert done.stdout.decode() == binhdan.restore(text) + "\n" == "tôi muốn mua một cái xe đạp cho con gái\n"


def test_empty_prompts() -> None:
    assert "the prompt is empty" in complaint("ask", "")
    assert "the prompt is empty" in complaint("ask", "-")
    assert "the prompt is empty" in complaint("ask", stdin=b" \n\n")


def test_ten_megabytes() -> None:
    start = time.perf_counter()
    line = complaint("ask", "-", stdin=b"Viet Nam " * 1_200_000)
    assert "too long" in line and "2,048" in line
    assert time.perf_counter() - start < 30


def test_too_much_input() -> None:
    assert "64 MiB" in complaint("ask", "-", stdin=b"a" * (1 << 26) + b"a")


@pytest.mark.parametrize("prompt", ["\x01\x02\x1b[31m\x7f", b"xin ch\xe0o \xff\xfe", "\U0010ffff\u202e"])
def test_control_characters(prompt: str | bytes) -> None:
    done = run("ask", "--max-tokens", "4", prompt)
    assert done.returncode == 0 and done.stderr == b""
    done = run(
        "ask", "--max-tokens", "4", "-", stdin=prompt if isinstance(prompt, bytes) else prompt.encode()
    )
    assert done.returncode == 0 and done.stderr == b""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1258"])
def test_other_encodings(encoding: str) -> None:
    done = run("ask", PROMPT, env={"PYTHONIOENCODING": encoding})
    assert done.returncode == 0 and done.stderr == b"" and done.stdout.decode().strip() == ANSWER
    done = run("ask", "--json", PROMPT, env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    assert json.loads(done.stdout)["text"] == ANSWER


def test_ctrl_c() -> None:
    with subprocess.Popen([*COMMAND, *ENDLESS], **SMALL_PIPES) as process:
        assert process.stdout is not None and process.stdout.read(4)
        process.send_signal(signal.SIGINT)
        start = time.perf_counter()
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130 and b"Traceback" not in stderr
    assert time.perf_counter() - start < 10


def test_a_closed_output_pipe() -> None:
    with subprocess.Popen([*COMMAND, *ENDLESS], **SMALL_PIPES) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(4)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk() -> None:
    for command in (["ask", PROMPT], ["info", "--json"]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([*COMMAND, *command], stdout=full, stderr=subprocess.PIPE, timeout=120)
        assert done.returncode == 1
        assert done.stderr.count(b"\n") == 1 and b"no space is left" in done.stderr


def test_closed_streams() -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" <&-', "sh", *COMMAND, "ask"], stderr=subprocess.PIPE, timeout=120, check=False
    )
    assert done.returncode == 1 and done.stderr == b"binhdan: the prompt is empty\n"
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *COMMAND, "ask", PROMPT], capture_output=True, timeout=120
    )
    assert done.returncode == 0 and done.stderr == b""


# ---- files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["ask", "x", "-m"], ["info"], ["tokenize", "x", "-m"]], ids=str)
def test_invalid_files(command: list[str], tmp_path: Path, model: binhdan.Model) -> None:
    (tmp_path / "text.gguf").write_text("xin chào\n" * 100, "utf-8")
    (tmp_path / "cut.gguf").write_bytes(model.path.read_bytes()[:1_000_000])
    assert "no such file: missing.gguf" in complaint(*command, "missing.gguf")
    assert "text.gguf" in complaint(*command, str(tmp_path / "text.gguf"))
    assert "cut.gguf" in complaint(*command, str(tmp_path / "cut.gguf"))
    assert complaint(*command, str(tmp_path))


@pytest.fixture
def foreign(tmp_path: Path, model: binhdan.Model) -> Path:
    """A model of an unknown architecture. Its name contains an escape sequence and rich markup."""
    changes: dict[str, str | None] = {"general.architecture": "mamba9", "general.name": "\x1b[31m[bold]x"}
    return with_metadata(model.path, tmp_path / "foreign.gguf", changes)


def test_an_unknown_architecture(foreign: Path) -> None:
    assert "mamba9" in complaint("ask", "-m", str(foreign), "x")
    shown = text_of("info", str(foreign))
    assert re.search(r"runs here +no: .*mamba9", shown) and "\x1b" not in shown and "[bold]x" in shown
    facts = json.loads(text_of("info", "--json", str(foreign)))
    assert facts["supported"] is False and "mamba9" in facts["reason"] and facts["memory"]["weights"] > 0


def test_info_shows_the_first_fault_and_warnings(tmp_path: Path, model: binhdan.Model) -> None:
    """info says what ask says."""
    path = with_metadata(model.path, tmp_path / "pre.gguf", {"tokenizer.ggml.pre": "qwen9"})
    assert "qwen9" in complaint("ask", "-m", str(path), "x")
    assert re.search(r"runs here +no: .*qwen9", text_of("info", str(path)))
    path = with_metadata(model.path, tmp_path / "key.gguf", {"qwen3.new": "x"})
    shown = text_of("info", str(path))
    assert re.search(r"runs here +yes", shown) and re.search(r"warning +keys .*'qwen3.new'", shown)


def test_info(model: binhdan.Model) -> None:
    shown = text_of("info")
    for expected in (
        "qwen3",
        "yes",
        "8,393,984",
        "8,192 tokens",
        "2,048 tokens",
        "Q8_0",
        "57 tensors",
        "with chat template",
        "text, embeddings",
    ):
        assert expected in shown
    assert re.search(r"causal +yes", shown) and re.search(r"pooling +mean", shown)
    facts = json.loads(text_of("info", "--json", "--context", "100", str(model.path)))
    kv = 100 * model.info.kv_bytes_per_token
    assert facts["memory"]["kv"] == kv and facts["memory"]["total"] == kv + facts["memory"]["weights"]
    assert facts["parameters"] == model.info.parameters and facts["supported"] is True


def test_info_shows_what_fits(model: binhdan.Model) -> None:
    facts = json.loads(text_of("info", "--json", "--fit", "64MB"))
    fit, kv = facts["fit"], facts["needs"]["kv"]
    assert fit["contexts"]["f16"] == fit["contexts"]["q8_0"] == 2048
    # 10 pages of F16, and as much memory in the smaller type
    needed = fit["weights"] + fit["buffers"] + 10 * kv["f16"]["page"]
    fit = json.loads(text_of("info", "--json", "--fit", str(needed)))["fit"]
    assert fit["contexts"]["f16"] == 640 and 1152 <= fit["contexts"]["q8_0"] <= 1216
    assert json.loads(text_of("info", "--json", "--fit", str(needed - 1)))["fit"]["contexts"]["f16"] == 576
    assert re.search(r"fits +in .*: 640 tokens of context with f16", text_of("info", "--fit", str(needed)))
    assert re.search(r"fits +no: 1.0 MB is too little", text_of("info", "--fit", "1MB"))
    assert "--fit: expected bytes, or a size such as 2GiB" in complaint("info", "--fit", "much")


def test_info_fit_of_a_foreign_file(foreign: Path) -> None:
    assert "does not run here" in complaint("info", "--fit", "1GB", str(foreign))


# ---- other commands ----------------------------------------------------------------------------------------


def test_tokenize(model: binhdan.Model) -> None:
    text = "Tie\u0302\u0301ng Việt <|im_end|>"
    shown = json.loads(text_of("tokenize", "--json", text))
    assert shown["tokens"] == model.tokenize(text)
    assert json.loads(text_of("tokenize", "--json", "--special", "x<|im_end|>"))["pieces"][-1] == "<|im_end|>"
    exact = json.loads(text_of("tokenize", "--json", "-", stdin=b"\xff\x00a\n"))
    assert model.detokenize_bytes(exact["tokens"]) == b"\xff\x00a\n"
    assert json.loads(text_of("tokenize", "--json", b"\xff"))["tokens"] == model.tokenize(b"\xff")
    assert ' nội"\n' in text_of("tokenize", "hà nội")


def test_pack(tmp_path: Path, model: binhdan.Model) -> None:
    path = tmp_path / "model.gguf"
    shutil.copy(model.path, path)
    assert text_of("pack", str(path)).startswith(f"{path}.pack: ")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.gguf", "model.gguf.pack"]
    assert text_of("ask", "-m", str(path), "xin chào") == text_of("ask", "xin chào")
    assert "no such file" in complaint("pack", str(tmp_path / "none.gguf"))


def test_version() -> None:
    shown = text_of("--version")
    assert shown.startswith(f"binhdan {binhdan.__version__}\n") and "scalar" in shown and "cores" in shown


def test_help_lists_all_commands() -> None:
    shown = text_of("--help")
    for command in ("ask", "chat", "info", "pack", "tokenize", "pull", "serve", "bench", "quantize"):
        assert re.search(rf"^  {command} ", shown, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["ask", "--nonsense"], "nonsense"),
        (["nonsense"], "nonsense"),
        (["ask", "a", "b"], "b"),
        (["ask", "--top-p", "2", "x"], "top-p"),
        (["ask", "--max-tokens", "0", "x"], "max-tokens"),
        (["ask", "--threads", "x", "x"], "threads"),
    ],
)
def test_wrong_usage(arguments: list[str], expected: str) -> None:
    assert expected in complaint(*arguments, code=2)


def test_wrong_values() -> None:
    assert "context" in complaint("ask", "--context", "999999", "x")
    assert "seed" in complaint("ask", "--seed", str(2**64), "x")


@pytest.mark.parametrize("where", [0, 1, 3])
def test_debug_shows_the_traceback(where: int) -> None:
    arguments = ["ask", "-m", "missing.gguf", "x"]
    arguments.insert(where if where != 3 else 4, "--debug")
    done = run(*arguments)
    assert (
        done.returncode == 1 and b"Traceback" in done.stderr and b"no such file: missing.gguf" in done.stderr
    )


def test_commands_of_bench_and_quantize() -> None:
    assert "speed" in text_of("bench", "--help")
    assert "--recipe" in text_of("quantize", "--help")
    assert "binhdan[bench]" in text_of("bench", "plan", "--help")  # brackets are text, not markup


def test_a_missing_extra(tmp_path: Path) -> None:
    (tmp_path / "gguf.py").write_text("raise ModuleNotFoundError(\"No module named 'gguf'\", name='gguf')")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = run("quantize", "x", "y", env={"PYTHONPATH": path})
    assert done.returncode == 1 and done.stderr == (
        b"binhdan: binhdan quantize needs gguf; install it with: pip install 'binhdan[quantize]'\n"
    )
