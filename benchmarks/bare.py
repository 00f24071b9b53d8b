"""The baseline: llama.cpp's C API in the plainest loop, with no server around it.

``python -m benchmarks.bare MODEL --prompt-tokens N --tokens N --threads N`` prints one JSON object
with nanoseconds: ``load``, ``prefill``, ``decode`` (of all tokens), ``first_token`` (from nothing).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import time
from dataclasses import asdict, dataclass
from typing import Any, cast

import llama_cpp


@dataclass(frozen=True)
class BareRun:
    """Durations in nanoseconds, counts in tokens."""

    load: int
    prefill: int
    decode: int
    first_token: int
    prompt_tokens: int
    tokens: int


def run(model: str, text: str, tokens: int, n_ctx: int, threads: int, sampling: str) -> BareRun:
    """Load, read the prompt, write ``tokens`` tokens with the C sampler chain of that name."""
    started = time.perf_counter_ns()
    silence()
    llama_cpp.llama_backend_init()
    model_params = llama_cpp.llama_model_default_params()
    loaded = llama_cpp.llama_model_load_from_file(model.encode(), model_params)
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = n_ctx
    params.n_threads = params.n_threads_batch = threads
    params.flash_attn_type = flash_attention()
    context = llama_cpp.llama_init_from_model(loaded, params)
    load = time.perf_counter_ns() - started
    vocab = llama_cpp.llama_model_get_vocab(loaded)
    sampler = make_sampler(sampling, llama_cpp.llama_vocab_n_tokens(vocab))
    prompt = tokenize(vocab, text)

    prefill_started = time.perf_counter_ns()
    tokens_in = (ctypes.c_int32 * len(prompt))(*prompt)
    decode(context, tokens_in)
    token = llama_cpp.llama_sampler_sample(sampler, context, -1)
    decode_started = time.perf_counter_ns()
    one = (ctypes.c_int32 * 1)()
    for _ in range(tokens - 1):
        one[0] = token
        decode(context, one)
        token = llama_cpp.llama_sampler_sample(sampler, context, -1)
    ended = time.perf_counter_ns()
    return BareRun(
        load=load,
        prefill=decode_started - prefill_started,
        decode=ended - decode_started,
        first_token=decode_started - started,
        prompt_tokens=len(prompt),
        tokens=tokens - 1,
    )


def flash_attention() -> int:
    """What is fastest: on a processor none."""
    if llama_cpp.llama_supports_gpu_offload():
        return int(llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO)
    return int(llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED)


def decode(context: Any, tokens: Any) -> None:
    batch = llama_cpp.llama_batch_get_one(tokens, len(tokens))
    if llama_cpp.llama_decode(context, batch) != 0:
        raise RuntimeError("llama_decode failed")


def silence() -> None:
    """Loading writes pages of log otherwise."""
    callback = llama_cpp.llama_log_callback(lambda level, text, data: None)
    _kept.append(callback)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))


_kept: list[Any] = []


def make_sampler(name: str, n_vocab: int) -> Any:
    """``greedy``, or the chain of Ollama's default options."""
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    if name == "greedy":
        links = [llama_cpp.llama_sampler_init_greedy()]
    else:
        links = [
            llama_cpp.llama_sampler_init_penalties(n_vocab, 64, 1.1, 0.0, 0.0),
            llama_cpp.llama_sampler_init_top_k(40),
            llama_cpp.llama_sampler_init_top_p(0.9, 1),
            llama_cpp.llama_sampler_init_temp(0.8),
            llama_cpp.llama_sampler_init_dist(1),
        ]
    for link in links:
        llama_cpp.llama_sampler_chain_add(chain, link)
    return chain


def tokenize(vocab: Any, text: str) -> list[int]:
    data = text.encode()
    buffer = (ctypes.c_int32 * (len(data) + 8))()
    count = llama_cpp.llama_tokenize(vocab, data, len(data), buffer, len(buffer), True, True)
    if count < 0:
        raise ValueError("the prompt can't be tokenized")
    return cast(list[int], list(buffer[:count]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--prompt", default="Once upon a time")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--n-ctx", type=int, default=4096)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--sampling", choices=("greedy", "default"), default="greedy")
    given = parser.parse_args()
    result = run(
        given.model, given.prompt, given.tokens, given.n_ctx, given.threads, given.sampling
    )
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
