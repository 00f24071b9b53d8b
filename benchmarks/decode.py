"""Our whole stack (HTTP, streaming) against the bare C API, turn by turn in the same run.

``python -m benchmarks.decode MODEL.gguf`` prints, as medians of the turns: decode speed of both and
their ratio, overhead per token, time to first token over HTTP minus the bare prefill (model
loaded), and from nothing to the first token of both (page cache warm).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.stack import Server, StreamedRun, serving

#: Seconds between unloading and the next load, so that the server has a spare runner again.
_REST = 4

PROMPTS = (
    "Once upon a time there was a little dog named",
    "One day a girl went to the park with her friend",
    "The sun was high and the birds sang in the old tree",
    "A small boat sailed over the lake on a windy",
    "In the morning the farmer gave his horse some fresh",
)
OPTIONS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0, "repeat_penalty": 1.0},
    "default": {"seed": 1},
}


def bare(model: Path, prompt: str, given: argparse.Namespace) -> dict[str, int]:
    command = [sys.executable, "-m", "benchmarks.bare", str(model), "--prompt", prompt]
    command += ["--tokens", str(given.tokens), "--threads", str(given.threads)]
    command += ["--sampling", given.sampling, "--n-ctx", str(given.n_ctx)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, int] = json.loads(output)
    return found


def ours(server: Server, prompt: str, given: argparse.Namespace) -> StreamedRun:
    options = OPTIONS[given.sampling] | {"num_predict": given.tokens, "num_ctx": given.n_ctx}
    return server.stream("model", prompt, options | {"num_thread": given.threads})


def median(values: list[float]) -> float:
    return statistics.median(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--n-ctx", type=int, default=2048)
    parser.add_argument("--sampling", choices=tuple(OPTIONS), default="greedy")
    given = parser.parse_args()
    rows: list[dict[str, float]] = []
    with serving() as server:
        server.create("model", given.model)
        for turn in range(given.turns):
            prompt = PROMPTS[turn % len(PROMPTS)]
            server.unload("model")
            theirs = bare(given.model, prompt, given)
            time.sleep(_REST)
            cold = ours(server, prompt, given)
            warm = ours(server, PROMPTS[(turn + 1) % len(PROMPTS)], given)
            rows.append(compare(theirs, cold, warm))
    print(f"{given.model.name}: {given.turns} turns, {given.threads} threads, {given.sampling}")
    for name in rows[0]:
        values = [row[name] for row in rows]
        print(f"  {name:44} {median(values):10.3f}   ({min(values):.3f} to {max(values):.3f})")


def compare(theirs: dict[str, int], cold: StreamedRun, warm: StreamedRun) -> dict[str, float]:
    per_token = theirs["decode"] / theirs["tokens"]
    per_token_ours = warm.decode / warm.tokens
    return {
        "bare decode (tokens/s)": 1e9 / per_token,
        "our decode over HTTP (tokens/s)": 1e9 / per_token_ours,
        "ratio": per_token / per_token_ours,
        "overhead (µs/token)": (per_token_ours - per_token) / 1e3,
        "our engine's eval_duration (tokens/s)": warm.tokens / warm.stats["eval_duration"] * 1e9,
        "first token, loaded (ms)": warm.first_token / 1e6,
        "bare prefill (ms)": theirs["prefill"] / 1e6,
        "first token minus bare prefill (ms)": (warm.first_token - theirs["prefill"]) / 1e6,
        "first token from nothing (ms)": cold.first_token / 1e6,
        "bare first token from nothing (ms)": theirs["first_token"] / 1e6,
        "from nothing minus bare (ms)": (cold.first_token - theirs["first_token"]) / 1e6,
    }


if __name__ == "__main__":
    main()
