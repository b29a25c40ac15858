"""Writes the run's weights as a Hugging Face checkpoint, which `binhdan quantize` converts to GGUF.

python -m train_tiny_vi.export train_tiny_vi/config.toml FOLDER
README.md has the command that makes a GGUF file of it.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from train_tiny_vi.checkpoints import load_run, write_checkpoint
from train_tiny_vi.config import read_config
from train_tiny_vi.tokenizer import write_tokenizer_config
from train_tiny_vi.train import build


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the run's weights as a Hugging Face checkpoint.")
    parser.add_argument("config", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    config = read_config(options.config)
    model = build(config, torch.device("cpu"))
    state = load_run(config.work / "run.pt")
    model.load_state_dict(state["model"])
    write_checkpoint(options.folder, model)
    shutil.copyfile(config.tokenizer, options.folder / "tokenizer.json")
    write_tokenizer_config(options.folder / "tokenizer_config.json", model.shape.context)
    print(f"step {state['step']}, {state['tokens']:,} tokens seen → {options.folder}")


if __name__ == "__main__":
    main()
