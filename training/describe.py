"""The model of the package, measured and described: ``python -m training.describe STEPS``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from llamaherd.cria import bundle
from llamaherd.gguf import GGUF
from training import card
from training.client import server
from training.evaluate import COUNT, WAYS, Result, evaluate, keeps_promises, table, tell
from training.export import QUANTIZATION


def describe(steps: int, count: int) -> int:
    """Evaluates the model of the package and writes the card."""
    results: dict[str, list[Result]] = {}
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as client:
        model = bundle.NAME.short
        for way, options in WAYS.items():
            results[way] = []
            for result in evaluate(client, model, options, count):
                results[way].append(result)
                tell(way, result)
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
    sys.exit(describe(int(sys.argv[1]), COUNT))
