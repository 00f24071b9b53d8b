"""What log-probabilities cost, of replies and of prompts, turn by turn in the same run.

``python -m benchmarks.logprobs MODEL.gguf`` prints, as medians of the turns, the time per token by
the engine's clock: of a reply that asks for none, of one that asks for those of its tokens, and of
one that asks for 20 alternatives to each as well. What JSON and HTTP cost is in the other figures,
from the first byte to the last. The last two figures are the time per token of a prompt that is
read, by the client's clock: of one that is only read, and of one whose tokens are scored.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.stack import Server, StreamedRun, serving

PROMPT: Final = "Once upon a time"
KINDS: Final[dict[str, dict[str, Any]]] = {
    "without": {},
    "of its tokens": {"logprobs": True},
    "and of 20 alternatives": {"logprobs": True, "top_logprobs": 20},
}
PROMPT_KINDS: Final[dict[str, dict[str, Any]]] = {
    "a prompt that is read": {},
    "a prompt that is scored": {"echo": True, "logprobs": 1},
}


def write(server: Server, given: argparse.Namespace, fields: dict[str, Any]) -> StreamedRun:
    options = {"seed": 1, "num_predict": given.tokens, "num_ctx": 2048}
    options |= {"num_thread": given.threads}
    return server.stream("model", PROMPT, options, **fields)


def read(server: Server, given: argparse.Namespace, fields: dict[str, Any]) -> float:
    """Milliseconds for a token of a prompt that nobody has sent before."""
    words = [f"{random.randrange(10**6)}" for _ in range(given.prompt // 3)]
    request = {"model": "model", "prompt": " ".join(words), "max_tokens": 0} | fields
    started = time.perf_counter_ns()
    answer = server.request("POST", "/v1/completions", request)
    duration = time.perf_counter_ns() - started
    count: int = json.loads(answer)["usage"]["prompt_tokens"]
    return duration / count / 1e6


def turn(server: Server, given: argparse.Namespace) -> dict[str, float]:
    found = {}
    for name, fields in PROMPT_KINDS.items():
        found[f"{name} (ms/token)"] = read(server, given, fields)
    for name, fields in KINDS.items():
        run = write(server, given, fields)
        count = run.stats["eval_count"]
        found[f"{name} (ms/token)"] = run.stats["eval_duration"] / count / 1e6
        found[f"{name}, by the client (ms/token)"] = run.decode / run.tokens / 1e6
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    with serving() as server:
        server.create("model", given.model)
        write(server, given, {})
        rows = [turn(server, given) for _ in range(given.turns)]
    print(f"{given.model.name}: {given.turns} turns, {given.threads} threads")
    medians = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    for name, median in medians.items():
        values = [row[name] for row in rows]
        print(f"  {name:44} {median:8.3f}   ({min(values):.3f} to {max(values):.3f})")
    for kinds in (KINDS, PROMPT_KINDS):
        plain, *others = kinds
        for name in others:
            ratio = medians[f"{name} (ms/token)"] / medians[f"{plain} (ms/token)"]
            print(f"  {f'{name} / {plain}':44} {ratio:8.3f}")


if __name__ == "__main__":
    main()
