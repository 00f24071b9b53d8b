"""Qwen 2, 2.5 and 3, the dense ones."""

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
from llamaherd.create.convert.config import Config
from llamaherd.create.convert.plan import Architecture, Computed, Wanted
from llamaherd.create.convert.writer import Value

_NORMS: Final = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}


def _qwen2_metadata(config: Config) -> dict[str, Value]:
    return _metadata(config, "qwen2")


def _qwen3_metadata(config: Config) -> dict[str, Value]:
    return _metadata(config, "qwen3")


def _metadata(config: Config, name: str) -> dict[str, Value]:
    config.require("hidden_act", "silu")
    config.require("use_sliding_window", False)
    return decoder_metadata(config, name)


def _qwen2_tensors(config: Config) -> Iterator[Wanted | Computed]:
    widths = Widths.of(config)
    yield from embeddings(config, widths)
    for index in range(widths.layers):
        target, source = f"blk.{index}", f"model.layers.{index}"
        yield from _layer(target, source, widths)
        yield from attention(target, f"{source}.self_attn", widths, bias=True)


def _qwen3_tensors(config: Config) -> Iterator[Wanted | Computed]:
    widths = Widths.of(config)
    yield from embeddings(config, widths)
    for index in range(widths.layers):
        target, source = f"blk.{index}", f"model.layers.{index}"
        yield from _layer(target, source, widths)
        yield from attention(target, f"{source}.self_attn", widths, bias=None)
        names = {"attn_q_norm": "q_norm", "attn_k_norm": "k_norm"}
        yield from norms(target, f"{source}.self_attn", widths.head, names)


def _layer(target: str, source: str, widths: Widths) -> Iterator[Wanted]:
    yield from norms(target, source, widths.embedding, _NORMS)
    output = (f"{target}.attn_output", f"{source}.self_attn.o_proj")
    yield from linear(*output, widths.embedding, widths.query, bias=None)
    yield from gated_feed_forward(target, f"{source}.mlp", widths)


QWEN2: Final = Architecture("qwen2", _qwen2_metadata, _qwen2_tensors)
QWEN3: Final = Architecture("qwen3", _qwen3_metadata, _qwen3_tensors)
