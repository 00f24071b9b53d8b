"""What a format costs and gains, over HTTP, turn by turn in the same run.

``python -m benchmarks.structured MODEL.gguf`` prints, as medians of the turns: time per token of a
free reply, of one whose every token is masked but none forced, of a JSON object most of whose
tokens are forced, of a call that ``tool_choice`` demands; of a free reply beside a free one and
beside a masked one; and the time to the first token of a new schema.
"""

from __future__ import annotations

import argparse
import json
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.stack import Server, StreamedRun, serving

TEMPLATE = "{{ range .Messages }}{{ .Content }}{{ end }}{{ if .Tools }}: {{ end }}"
PROMPT = "Describe the animal that you see in the picture as JSON"
SAMPLING = {"seed": 1, "repeat_penalty": 1.0}

#: Any text without digits: about all tokens are allowed, none is forced.
MASKED = {"grammar": r"start: /[^0-9]*/"}
CHOICES: dict[str, list[Any]] = {
    "species_common_name": ["domestic cat", "domestic dog", "grey wolf"],
    "estimated_age_category": ["juvenile", "adolescent", "adult"],
    "primary_fur_colour": ["black", "brown", "white", "orange"],
    "current_activity_description": ["sleeping on a chair", "running in a field"],
    "is_wearing_a_collar": [True, False],
}
FORCED = {
    "type": "object",
    "properties": {name: {"enum": values} for name, values in CHOICES.items()},
    "required": list(CHOICES),
    "additionalProperties": False,
}


def write(server: Server, given: argparse.Namespace, form: Any, tokens: int) -> StreamedRun:
    options = SAMPLING | {"num_predict": tokens, "num_ctx": 2048, "num_thread": given.threads}
    return server.stream("model", PROMPT, options, form)


def call(server: Server, given: argparse.Namespace) -> float:
    """Milliseconds per token of a call of a tool with the parameters of ``FORCED``."""
    tool = {"type": "function", "function": {"name": "describe_animal", "parameters": FORCED}}
    answer = server.request(
        "POST",
        "/api/chat",
        {
            "model": "caller",
            "messages": [{"role": "user", "content": PROMPT}],
            "tools": [tool],
            "tool_choice": {"type": "function", "function": {"name": "describe_animal"}},
            "options": SAMPLING | {"num_ctx": 2048, "num_thread": given.threads},
            "stream": False,
        },
    )
    reply = json.loads(answer)
    assert len(reply["message"]["tool_calls"]) == 1
    return float(reply["eval_duration"] / reply["eval_count"] / 1e6)


def per_token(run: StreamedRun) -> float:
    """Milliseconds by the engine's clock, all tokens counted."""
    return float(run.stats["eval_duration"] / run.stats["eval_count"] / 1e6)


def beside(server: Server, given: argparse.Namespace, neighbour: Any) -> float:
    """Milliseconds per token of a free reply while the neighbour's is written."""
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(write, server, given, neighbour, 2 * given.tokens)
        found = per_token(write(server, given, None, given.tokens))
        other.result()
    return found


def turn(server: Server, given: argparse.Namespace, number: int) -> dict[str, float]:
    free = write(server, given, None, given.tokens)
    masked = write(server, given, MASKED, given.tokens)
    forced = write(server, given, FORCED, 500)
    called = call(server, given)
    new = write(server, given, {**FORCED, "title": f"turn {number}"}, 1)
    return {
        "free (ms/token)": per_token(free),
        "masked (ms/token)": per_token(masked),
        "masked minus free (ms/token)": per_token(masked) - per_token(free),
        "forced (ms/token)": per_token(forced),
        "free / forced": per_token(free) / per_token(forced),
        "call (ms/token)": called,
        "free / call": per_token(free) / called,
        "free beside free (ms/token)": beside(server, given, None),
        "free beside masked (ms/token)": beside(server, given, MASKED),
        "first token, free (ms)": free.first_token / 1e6,
        "first token, new schema (ms)": new.first_token / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    with serving(OLLAMA_NUM_PARALLEL="2") as server:
        server.create("model", given.model)
        server.request(
            "POST",
            "/api/create",
            {"model": "caller", "from": "model", "template": TEMPLATE, "stream": False},
        )
        first = write(server, given, FORCED, 1)
        write(server, given, None, 1)
        rows = [turn(server, given, number) for number in range(given.turns)]
    print(f"{given.model.name}: {given.turns} turns, {given.threads} threads")
    print(f"  {'first format of a model, with loading (ms)':44} {first.first_token / 1e6:10.3f}")
    for name in rows[0]:
        values = [row[name] for row in rows]
        median = statistics.median(values)
        print(f"  {name:44} {median:10.3f}   ({min(values):.3f} to {max(values):.3f})")


if __name__ == "__main__":
    main()
