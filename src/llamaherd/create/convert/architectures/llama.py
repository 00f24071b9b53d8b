"""Llama 1 to 3.3, and what is built like it: Mistral, and Mixtral with its experts.

llama.cpp has no sliding window for this architecture; models that were trained with one (the first
Mistral) see their whole context.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from llamaherd.create.convert.architectures.decoder import (
    Widths,
    attention,
    decoder_metadata,
    embeddings,
    gated_feed_forward,
    linear,
    norms,
)
from llamaherd.create.convert.architectures.rope import (
    llama3_factors,
    rope_kind,
    rope_parameters,
    rope_theta,
)
from llamaherd.create.convert.config import Config
from llamaherd.create.convert.plan import Architecture, Computed, Wanted, stacked
from llamaherd.create.convert.writer import Value

_NAME: Final = "llama"


def _metadata(config: Config, theta: float = 10_000.0) -> dict[str, Value]:
    config.require("hidden_act", "silu")
    return decoder_metadata(config, _NAME, theta=theta)


def _mixtral_metadata(config: Config) -> dict[str, Value]:
    return _metadata(config, theta=1_000_000.0) | {
        f"{_NAME}.expert_count": config.count("num_local_experts"),
        f"{_NAME}.expert_used_count": config.count("num_experts_per_tok"),
    }


def _tensors(config: Config) -> Iterator[Wanted | Computed]:
    widths = Widths.of(config)
    yield from _frame(config, widths)
    for index in range(widths.layers):
        target, source = f"blk.{index}", f"model.layers.{index}"
        yield from _attention(target, source, widths)
        yield from gated_feed_forward(target, f"{source}.mlp", widths, bias=None)


def _mixtral_tensors(config: Config) -> Iterator[Wanted | Computed]:
    widths = Widths.of(config)
    experts = config.count("num_local_experts")
    yield from _frame(config, widths)
    for index in range(widths.layers):
        target, source = f"blk.{index}", f"model.layers.{index}"
        yield from _attention(target, source, widths)
        yield from _experts(target, f"{source}.block_sparse_moe", widths, experts)


def _frame(config: Config, widths: Widths) -> Iterator[Wanted | Computed]:
    yield from embeddings(config, widths)
    parameters = rope_parameters(config)
    if rope_kind(parameters) == "llama3":
        theta = rope_theta(config, parameters)
        yield Computed(
            "rope_freqs.weight",
            widths.head // 2,
            lambda: llama3_factors(parameters, theta, widths.head),
        )


def _attention(target: str, source: str, widths: Widths) -> Iterator[Wanted]:
    names = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    yield from norms(target, source, widths.embedding, names)
    yield from attention(target, f"{source}.self_attn", widths, bias=None, interleave=True)
    yield from linear(
        f"{target}.attn_output",
        f"{source}.self_attn.o_proj",
        widths.embedding,
        widths.query,
        bias=None,
    )


def _experts(target: str, source: str, widths: Widths, count: int) -> Iterator[Wanted]:
    gate = (count, widths.embedding)
    yield Wanted(f"{target}.ffn_gate_inp.weight", (f"{source}.gate.weight",), gate, exact=True)
    wide = (count, widths.feed_forward, widths.embedding)
    narrow = (count, widths.embedding, widths.feed_forward)
    for own, theirs, shape in (("gate", "w1", wide), ("down", "w2", narrow), ("up", "w3", wide)):
        sources = stacked(f"{source}.experts.{{}}.{theirs}.weight", count)
        yield Wanted(f"{target}.ffn_{own}_exps.weight", sources, shape)


LLAMA: Final = Architecture(_NAME, _metadata, _tensors)
MIXTRAL: Final = Architecture(_NAME, _mixtral_metadata, _mixtral_tensors)
