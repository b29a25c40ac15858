"""Predictions of files on boards, as a result file for docs/performance.md.

    python -m binhdan.bench.boards.predictions --board BOARD … -m MODEL.gguf … \\
        --write bench/results/arm-predictions.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from binhdan.bench.boards.predict import board_rates, predict
from binhdan.bench.boards.work import work_of
from binhdan.bench.common.results import write_results
from binhdan.runtime.cost.figures import load_board

DEPTH = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--board", action="append", required=True)
    parser.add_argument("-m", "--model", type=Path, action="append", required=True)
    parser.add_argument("--write", type=Path, required=True)
    arguments = parser.parse_args()
    rows: list[dict[str, str | float]] = []
    for name in arguments.board:
        board = load_board(name)
        for model in arguments.model:
            found = predict(work_of(str(model)), board_rates(board), DEPTH)
            rows.append(
                {
                    "board": board.name,
                    "file": model.stem,
                    "prefill": round(found.prefill_tokens_per_s),
                    "decode": round(found.decode_tokens_per_s, 1),
                    "bound": found.decode_bound,
                }
            )
    boards = " ".join(f"--board {name}" for name in arguments.board)
    write_results(
        arguments.write,
        "predictions",
        "Predicted speed of boards",
        rows,
        conditions=["a model, not a measurement", f"decode at {DEPTH} tokens"],
        versions={},
        command=f"python -m binhdan.bench.boards.predictions {boards} -m MODEL.gguf "
        f"--write {arguments.write}",
    )


if __name__ == "__main__":
    main()
