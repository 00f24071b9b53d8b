"""Embeddings by the client of Ollama: many sentences in one request, or in one request each.

``python -m benchmarks.embed MODEL.gguf`` prints medians of the turns, in milliseconds for all
sentences: in one request; in one request each, one after the other; in one request each, many at a
time; and by llama.cpp's C API in the plainest loop, in batches and one by one. For the first three
also the processor's time that server and runner took, which says more where others work too.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import llama_cpp
import ollama

from benchmarks.bare import silence, tokenize
from benchmarks.stack import Server, serving

WORDS = (
    *("the", "a", "old", "young", "small", "bright", "quiet", "river", "mountain", "city"),
    *("garden", "machine", "teacher", "doctor", "writer", "reads", "builds", "finds", "keeps"),
    *("crosses", "between", "under", "near", "with", "without", "because", "while", "green"),
    *("silver", "winter", "morning", "paper", "water", "story", "question", "answer", "number"),
)

#: Tokens in one batch of the bare loop.
BATCH = 512


def sentences(count: int) -> list[str]:
    """Of 6 to 16 words, the same ones every time."""
    dice = random.Random(1)
    return [" ".join(dice.choices(WORDS, k=dice.randint(6, 16))) + "." for _ in range(count)]


def milliseconds(started: int) -> float:
    return (time.perf_counter_ns() - started) / 1e6


def processor_time(server: Server) -> float:
    """Of the server and its runners up to now, in milliseconds; on Linux."""
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ticks = 0
    for process in (str(pid), *children):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks * 1000 / os.sysconf("SC_CLK_TCK")


def measured(server: Server, name: str, work: Callable[[], float]) -> dict[str, float]:
    """What ``work`` takes by its own account, and of the processor."""
    before = processor_time(server)
    spent = work()
    return {name: spent, f"{name}, processor": processor_time(server) - before}


def together(server: Server, texts: list[str], options: dict[str, Any]) -> float:
    with ollama.Client(host=server.host) as client:
        started = time.perf_counter_ns()
        assert len(client.embed("model", texts, options=options).embeddings) == len(texts)
        return milliseconds(started)


def one_each(server: Server, texts: list[str], options: dict[str, Any], clients: int) -> float:
    """``clients`` connections share the sentences, each with one request at a time."""

    def work(own: Sequence[str]) -> None:
        with ollama.Client(host=server.host) as client:
            for text in own:
                client.embed("model", text, options=options)

    shares = [texts[number::clients] for number in range(clients)]
    started = time.perf_counter_ns()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(work, shares))
    return milliseconds(started)


def bare(model: str, texts: list[str], threads: int) -> dict[str, float]:
    """What llama.cpp takes by itself, tokenizing included; run in a process of its own."""
    silence()
    llama_cpp.llama_backend_init()
    loaded = llama_cpp.llama_model_load_from_file(
        model.encode(), llama_cpp.llama_model_default_params()
    )
    params = llama_cpp.llama_context_default_params()
    params.embeddings = True
    params.n_ctx = params.n_batch = params.n_ubatch = BATCH
    params.n_seq_max = 64
    params.kv_unified = True
    params.n_threads = params.n_threads_batch = threads
    # Fastest for models that look at a text as a whole, on processors too.
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
    context = llama_cpp.llama_init_from_model(loaded, params)
    vocabulary = llama_cpp.llama_model_get_vocab(loaded)
    batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
    found = {}
    for name, most in (("warm-up", BATCH), ("in batches", BATCH), ("one by one", 1)):
        started = time.perf_counter_ns()
        tokens = [tokenize(vocabulary, text) for text in texts]
        for group in _groups(tokens, most):
            _evaluate(context, batch, group)
        found[name] = milliseconds(started)
    return found


def _groups(sequences: list[list[int]], most: int) -> Iterator[list[list[int]]]:
    """Sequences of ``most`` tokens together, of one sequence at least."""
    group: list[list[int]] = []
    for tokens in sequences:
        if group and (len(group) == 64 or sum(map(len, group)) + len(tokens) > most):
            yield group
            group = []
        group.append(tokens)
    yield group


def _evaluate(context: Any, batch: Any, group: list[list[int]]) -> None:
    row = 0
    for number, tokens in enumerate(group):
        for position, token in enumerate(tokens):
            batch.token[row] = token
            batch.pos[row] = position
            batch.n_seq_id[row] = 1
            batch.seq_id[row][0] = number
            batch.logits[row] = True
            row += 1
    batch.n_tokens = row
    if llama_cpp.llama_decode(context, batch) != 0:
        raise RuntimeError("llama_decode failed")
    width = llama_cpp.llama_model_n_embd(llama_cpp.llama_get_model(context))
    for number in range(len(group)):
        vector = llama_cpp.llama_get_embeddings_seq(context, number)
        ctypes.string_at(vector, 4 * width)


def bare_process(given: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.embed", "--bare", str(given.model)]
    command += ["--threads", str(given.threads), "--sentences", str(given.sentences)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def turn(server: Server, given: argparse.Namespace, texts: list[str]) -> dict[str, float]:
    options = {"num_thread": given.threads}
    many = f"{given.clients} at a time"
    row = measured(server, "one request", lambda: together(server, texts, options))
    row |= measured(server, "one each", lambda: one_each(server, texts, options, 1))
    row |= measured(server, many, lambda: one_each(server, texts, options, given.clients))
    times = bare_process(given)
    row |= {"bare, in batches": times["in batches"], "bare, one by one": times["one by one"]}
    row["one each / one request"] = row["one each"] / row["one request"]
    row["one each / one request, processor"] = (
        row["one each, processor"] / row["one request, processor"]
    )
    row[f"one each / {many}"] = row["one each"] / row[many]
    row["one request / bare in batches"] = row["one request"] / row["bare, in batches"]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--sentences", type=int, default=256)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    texts = sentences(given.sentences)
    if given.bare:
        print(json.dumps(bare(str(given.model), texts, given.threads)))
        return
    with serving() as server:
        server.create("model", given.model)
        together(server, texts, {"num_thread": given.threads})
        rows = [turn(server, given, texts) for _ in range(given.turns)]
    print(
        f"{given.model.name}: {len(texts)} sentences, {given.turns} turns, {given.threads} threads"
    )
    for name in rows[0]:
        values = [row[name] for row in rows]
        median = statistics.median(values)
        print(f"  {name:36} {median:10.2f}   ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
