"""``make cria``: trains the model of the package, puts it there, evaluates it and says how it is.

What is there of an interrupted run is used. Ends with 1 if the model doesn't keep what its card
promises.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

from llamaherd.cria import bundle
from llamaherd.gguf import GGUF
from training import card
from training.client import server
from training.evaluate import COUNT, WAYS, Result, evaluate, keeps_promises, table
from training.export import QUANTIZATION, export
from training.train import SEED, STEPS, WORKERS, Plan, train

FOLDER: Final = Path("build/cria")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="training", description="Train and describe Cria.")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--count", type=int, default=COUNT, help="cases of each task")
    given = parser.parse_args(arguments)
    train(Plan(FOLDER, given.steps, given.seed, WORKERS, compile=True))
    digest = export(FOLDER, bundle.WEIGHTS)
    bundle.DIGEST.write_text(f"{digest}\n")
    return describe(given.steps, given.count)


def describe(steps: int, count: int) -> int:
    """Evaluates the model of the package and writes the card."""
    results: dict[str, list[Result]] = {}
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as client:
        model = bundle.NAME.short
        for way, options in WAYS.items():
            results[way] = list(evaluate(client, model, options, count))
        told = card.stories(client, model)
    with GGUF.open(bundle.WEIGHTS) as gguf:
        parameters = gguf.parameter_count
    size = bundle.WEIGHTS.stat().st_size
    facts = (
        f"{parameters:,} parameters, {steps} steps of training; the file of {size:,} bytes "
        f"({QUANTIZATION}) has the digest `{bundle.DIGEST.read_text().strip()}`."
    )
    card.write(facts, table(results), told)
    return 0 if all(keeps_promises(each) for each in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
