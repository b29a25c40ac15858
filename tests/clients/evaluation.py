"""A task for lm-evaluation-harness, made of the sentences of README.vi.md, and its run against a server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

README = Path(__file__).parents[2] / "README.vi.md"
QUESTIONS = 32

# Multiple choice: which continuation of a sentence is more likely.
_TASK = """\
task: dau
dataset_path: json
dataset_kwargs:
  data_files: {file}
test_split: train
output_type: multiple_choice
doc_to_text: "{{{{begin}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: 0
target_delimiter: " "
metric_list:
  - metric: acc
"""


@dataclass(frozen=True)
class Sample:
    """A question, and the log probability that lm-eval has found for each choice."""

    begin: str
    choices: list[str]
    logprobs: list[float]


def questions() -> list[dict[str, Any]]:
    """Sentences that are cut in half. The choices: the second half, and the same without diacritics."""
    text = re.sub(r"```.*?```|^[|#\[].*?$", " ", README.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    found: list[dict[str, Any]] = []
    for part in re.split(r"[.:;()`*,|\n\[\]]+", text):
        words = part.split()
        rest = " ".join(words[len(words) // 2 :])
        if len(words) >= 6 and plain(rest) != rest:
            found.append({"begin": " ".join(words[: len(words) // 2]), "choices": [rest, plain(rest)]})
    assert len(found) >= QUESTIONS
    return found[:QUESTIONS]


def plain(text: str) -> str:
    """A text without diacritics."""
    letters = unicodedata.normalize("NFD", text).replace("đ", "d").replace("Đ", "D")
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def run_lm_eval(program: str, url: str, model: str, folder: Path) -> tuple[float, list[Sample]]:
    """The accuracy of the whole task, and its samples. `program`: the path of lm_eval."""
    rows = folder / "questions.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in questions()), "utf-8")
    (folder / "dau.yaml").write_text(_TASK.format(file=rows), "utf-8")
    settings = f"model={model},base_url={url}/v1/completions,num_concurrent=4,max_retries=1"
    command = [program, "run", "--model", "local-completions", "--model_args", settings, "--tasks", "dau"]
    command += ["--include_path", str(folder), "--output_path", str(folder / "out"), "--log_samples"]
    done = subprocess.run(
        command,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = (folder / "out").rglob("results_*.json")
    (logged,) = (folder / "out").rglob("samples_dau_*.jsonl")
    accuracy = json.loads(results.read_text("utf-8"))["results"]["dau"]["acc,none"]
    samples = []
    for line in logged.read_text("utf-8").splitlines():
        value = json.loads(line)
        logprobs = [float(answer[0][0]) for answer in value["resps"]]
        samples.append(Sample(value["doc"]["begin"], value["doc"]["choices"], logprobs))
    return accuracy, samples


def environment(folder: Path) -> dict[str, str]:
    """The environment of a client program: it keeps its files in `folder` and downloads nothing."""
    own = {"HOME": str(folder), "HF_HOME": str(folder), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return os.environ | own | {"OPENAI_API_KEY": "none"}
