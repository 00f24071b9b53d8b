"""``make cria``: trains the model of the package, puts it there, evaluates it and says how it is.

What is there of an interrupted run is used. Ends with 1 if the model doesn't keep what its card
promises.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from llamaherd.cria import bundle
from training.describe import describe
from training.evaluate import COUNT
from training.export import export
from training.schedule import STEPS
from training.train import SEED, WORKERS, Plan, train

FOLDER: Final = Path("build/cria")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="training", description="Train and describe Cria.")
    parser.add_argument("--steps", type=int, default=STEPS, help="where to stop")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--count", type=int, default=COUNT, help="cases of each task")
    given = parser.parse_args(arguments)
    train(Plan(FOLDER, given.steps, given.seed, WORKERS, compile=True))
    digest = export(FOLDER, bundle.WEIGHTS)
    bundle.DIGEST.write_text(f"{digest}\n")
    return describe(given.steps, given.count)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
