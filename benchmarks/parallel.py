"""Many clients of one model at a time: our whole stack against the bare C API.

``python -m benchmarks.parallel MODEL.gguf --clients 1 4 16`` prints for each count, as medians of
the turns, tokens per second of all replies together: over HTTP, a stream for each client; by the
plainest loop that evaluates one token of every sequence in one batch and chooses with llama.cpp's
greedy sampler; and by that loop without choosing, which is what evaluation alone allows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import llama_cpp

from benchmarks.bare import flash_attention, make_sampler, silence, tokenize
from benchmarks.stack import Server, serving

#: Tokens of context for each client.
CONTEXT = 1024

OPTIONS: dict[str, Any] = {"temperature": 0, "repeat_penalty": 1.0, "num_ctx": CONTEXT}


def prompts(count: int) -> list[str]:
    return [f"Story number {number}: once upon a time" for number in range(count)]


class BareLoop:
    """Sequences side by side in one llama.cpp context; speeds are tokens per second of all."""

    def __init__(self, model: str, texts: Sequence[str], threads: int) -> None:
        silence()
        llama_cpp.llama_backend_init()
        loaded = llama_cpp.llama_model_load_from_file(
            model.encode(), llama_cpp.llama_model_default_params()
        )
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = CONTEXT * len(texts)
        params.n_seq_max = len(texts)
        params.kv_unified = True
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = flash_attention()
        self._context = llama_cpp.llama_init_from_model(loaded, params)
        vocabulary = llama_cpp.llama_model_get_vocab(loaded)
        self._sampler = make_sampler("greedy", llama_cpp.llama_vocab_n_tokens(vocabulary))
        self._batch = llama_cpp.llama_batch_init(max(512, len(texts)), 0, 1)
        prompts = [tokenize(vocabulary, text) for text in texts]
        for number, tokens in enumerate(prompts):
            self._evaluate([(token, place, number) for place, token in enumerate(tokens)])
        self._last = [tokens[-1] for tokens in prompts]
        self._lengths = [len(tokens) for tokens in prompts]

    def speed(self, tokens: int, *, choose: bool) -> float:
        count = len(self._last)
        started = time.perf_counter()
        for _ in range(tokens):
            self._evaluate(list(zip(self._last, self._lengths, range(count), strict=True)))
            self._lengths = [length + 1 for length in self._lengths]
            if choose:
                self._last = [
                    llama_cpp.llama_sampler_sample(self._sampler, self._context, row)
                    for row in range(count)
                ]
        return count * tokens / (time.perf_counter() - started)

    def _evaluate(self, rows: Sequence[tuple[int, int, int]]) -> None:
        """Rows are token, position and sequence; of each the logits are computed."""
        batch = self._batch
        for row, (token, position, sequence) in enumerate(rows):
            batch.token[row] = token
            batch.pos[row] = position
            batch.n_seq_id[row] = 1
            batch.seq_id[row][0] = sequence
            batch.logits[row] = True
        batch.n_tokens = len(rows)
        if llama_cpp.llama_decode(self._context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        llama_cpp.llama_synchronize(self._context)


def bare(given: argparse.Namespace, count: int) -> dict[str, float]:
    """In a process of its own, whose memory goes with it."""
    command = [sys.executable, "-m", "benchmarks.parallel", str(given.model), "--bare"]
    command += ["--clients", str(count), "--tokens", str(given.tokens)]
    command += ["--threads", str(given.threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def ours(server: Server, given: argparse.Namespace, count: int) -> float:
    options = OPTIONS | {"num_predict": given.tokens, "num_thread": given.threads}
    with ThreadPoolExecutor(count) as pool:
        started = time.perf_counter()
        runs = list(pool.map(lambda text: server.stream("model", text, options), prompts(count)))
        seconds = time.perf_counter() - started
    return sum(int(run.stats["eval_count"]) for run in runs) / seconds


def measure(given: argparse.Namespace, count: int) -> list[dict[str, float]]:
    with serving(OLLAMA_NUM_PARALLEL=str(count), OLLAMA_MAX_QUEUE=str(count)) as server:
        server.create("model", given.model)
        ours(server, given, count)
        rows = []
        for _ in range(given.turns):
            row = bare(given, count) | {"over HTTP": ours(server, given, count)}
            rows.append(row | {"ratio": row["over HTTP"] / row["bare"]})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.bare:
        loop = BareLoop(str(given.model), prompts(given.clients[0]), given.threads)
        evaluation = loop.speed(given.tokens, choose=False)
        print(json.dumps({"bare": loop.speed(given.tokens, choose=True), "only": evaluation}))
        return
    print(f"{given.model.name}: {given.turns} turns, {given.threads} threads, tokens/s of all")
    for count in given.clients:
        rows = measure(given, count)
        bare_speed, only, http, ratio = (
            statistics.median(row[name] for row in rows)
            for name in ("bare", "only", "over HTTP", "ratio")
        )
        print(
            f"  {count:3} clients: over HTTP {http:8.1f}, bare {bare_speed:8.1f}, "
            f"ratio {ratio:.2f}, evaluation alone {only:8.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
