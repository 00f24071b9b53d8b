"""Phi 3, 3.5 and 4, the dense text models.

Queries, keys and values are one matrix, and so are the gate and the first half of the feed-forward
layer; llama.cpp has them the same way. It has no sliding window for this architecture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Final

from llamaherd.create.convert.architectures.decoder import (
    Widths,
    decoder_metadata,
    embeddings,
    linear,
    norms,
)
from llamaherd.create.convert.architectures.rope import rope_kind, rope_parameters, rope_theta
from llamaherd.create.convert.config import Config
from llamaherd.create.convert.plan import Architecture, Computed, Wanted
from llamaherd.create.convert.writer import Value

_LONG: Final = ("longrope", "su")
_NORMS: Final = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}


def _metadata(config: Config) -> dict[str, Value]:
    config.require("hidden_act", "silu")
    parameters = rope_parameters(config)
    long = rope_kind(parameters) in _LONG
    plain = Config({"rope_theta": rope_theta(config, parameters)}) if long else parameters
    metadata = decoder_metadata(config, "phi3", plain) | {
        "phi3.rope.dimension_count": _rotated(config, parameters),
        "phi3.rope.scaling.original_context_length": _trained(config, parameters),
        "phi3.attention.sliding_window": 0,
    }
    if long:
        metadata["phi3.rope.scaling.attn_factor"] = _attention_factor(config, parameters)
    return metadata


def _rotated(config: Config, parameters: Config) -> int:
    """How many elements of a head are rotated."""
    source = parameters if parameters.get("partial_rotary_factor") is not None else config
    return int(source.number("partial_rotary_factor", default=1.0) * Widths.of(config).head)


def _trained(config: Config, parameters: Config) -> int:
    longest = config.count("max_position_embeddings")
    name = "original_max_position_embeddings"
    source = parameters if parameters.get(name) is not None else config
    return source.count(name, default=longest)


def _attention_factor(config: Config, parameters: Config) -> float:
    """Transformers' ``_compute_longrope_parameters``."""
    if parameters.get("attention_factor") is not None:
        return parameters.number("attention_factor")
    trained = _trained(config, parameters)
    scale = config.count("max_position_embeddings") / trained
    return math.sqrt(1 + math.log(scale) / math.log(trained)) if scale > 1 and trained > 1 else 1.0


def _tensors(config: Config) -> Iterator[Wanted | Computed]:
    widths = Widths.of(config)
    yield from embeddings(config, widths)
    yield from _factors(config)
    for index in range(widths.layers):
        target, source = f"blk.{index}", f"model.layers.{index}"
        yield from norms(target, source, widths.embedding, _NORMS)
        for own, theirs, rows, columns in (
            ("attn_qkv", "self_attn.qkv_proj", widths.query + 2 * widths.key, widths.embedding),
            ("attn_output", "self_attn.o_proj", widths.embedding, widths.query),
            ("ffn_up", "mlp.gate_up_proj", 2 * widths.feed_forward, widths.embedding),
            ("ffn_down", "mlp.down_proj", widths.embedding, widths.feed_forward),
        ):
            yield from linear(f"{target}.{own}", f"{source}.{theirs}", rows, columns, bias=False)


def _factors(config: Config) -> Iterator[Computed]:
    """What each frequency is divided by, in contexts longer and shorter than those trained for."""
    parameters = rope_parameters(config)
    if rope_kind(parameters) not in _LONG:
        return
    length = _rotated(config, parameters) // 2
    for kind in ("long", "short"):
        values = parameters.numbers(f"{kind}_factor")
        if len(values) != length:
            raise parameters.wrong(f"{kind}_factor", f"{length} numbers", values)
        yield Computed(f"rope_factors_{kind}.weight", length, partial(list, values))


PHI3: Final = Architecture("phi3", _metadata, _tensors)
