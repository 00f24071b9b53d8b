"""Gemma 1, 2 and 3 (text only).

Gemma's norms multiply by one more than their weights, llama.cpp's by the weights. Which layers of
Gemma 2 and 3 have a sliding window, and how attention is scaled, is fixed in llama.cpp, so a
configuration that says otherwise is refused.
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
from llamaherd.create.convert.architectures.rope import rope_parameters, rope_theta
from llamaherd.create.convert.config import Config
from llamaherd.create.convert.plan import Architecture, Computed, Wanted
from llamaherd.create.convert.writer import Value

#: Every so many layers one sees the whole context.
_PERIOD_2: Final = 2
_PERIOD_3: Final = 6

#: The largest of either generation is known by this many layers and scales otherwise.
_LARGEST_2: Final = 46
_LARGEST_3: Final = 62

_NORMS: Final = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_FOUR_NORMS: Final = {
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_HEAD_NORMS: Final = {"attn_q_norm": "q_norm", "attn_k_norm": "k_norm"}


def _metadata(config: Config, name: str, theta: float = 10_000.0) -> dict[str, Value]:
    activations = ("gelu", "gelu_pytorch_tanh")
    config.require("hidden_act", *activations)
    config.require("hidden_activation", *activations)
    return decoder_metadata(config, name, theta=theta)


def _gemma_metadata(config: Config) -> dict[str, Value]:
    return _metadata(config, "gemma")


def _gemma2_metadata(config: Config) -> dict[str, Value]:
    _check_fixed(config, period=_PERIOD_2, largest=_LARGEST_2, default_scale=256)
    return _metadata(config, "gemma2") | {
        "gemma2.attention.sliding_window": config.count("sliding_window", default=4096),
        "gemma2.attn_logit_softcapping": config.number("attn_logit_softcapping", default=50.0),
        "gemma2.final_logit_softcapping": config.number("final_logit_softcapping", default=30.0),
    }


def _gemma3_metadata(config: Config) -> dict[str, Value]:
    _check_fixed(config, period=_PERIOD_3, largest=_LARGEST_3, default_scale=256)
    config.require("use_bidirectional_attention", False)
    config.require("attn_logit_softcapping")
    local = rope_parameters(config, "sliding_attention")
    metadata = _metadata(config, "gemma3", theta=1_000_000.0) | {
        "gemma3.attention.sliding_window": config.count("sliding_window", default=4096),
        "gemma3.rope.freq_base_swa": _local_theta(config, local),
    }
    if config.get("final_logit_softcapping") is not None:
        metadata["gemma3.final_logit_softcapping"] = config.number("final_logit_softcapping")
    return metadata


def _local_theta(config: Config, local: Config) -> float:
    if config.get("rope_local_base_freq") is not None:
        return config.number("rope_local_base_freq")
    return rope_theta(Config({}), local)


def _check_fixed(config: Config, *, period: int, largest: int, default_scale: int) -> None:
    widths = Widths.of(config)
    usual = widths.embedding // widths.heads if widths.layers == largest else widths.head
    scale = config.number("query_pre_attn_scalar", default=default_scale)
    if scale != usual:
        raise config.wrong("query_pre_attn_scalar", f"{usual}, as the engine has it", scale)
    config.require("sliding_window_pattern", period)
    kinds = config.get("layer_types")
    if kinds is not None:
        fixed = [
            "sliding_attention" if (index + 1) % period else "full_attention"
            for index in range(min(widths.layers, len(kinds) + 1))
        ]
        if kinds != fixed:
            expected = f"full_attention for every {period}th of {widths.layers} layers"
            raise config.wrong("layer_types", expected, kinds)


def _gemma_tensors(config: Config) -> Iterator[Wanted | Computed]:
    return _tensors(config, _NORMS, {})


def _gemma2_tensors(config: Config) -> Iterator[Wanted | Computed]:
    return _tensors(config, _FOUR_NORMS, {})


def _gemma3_tensors(config: Config) -> Iterator[Wanted | Computed]:
    return _tensors(config, _FOUR_NORMS, _HEAD_NORMS)


def _tensors(
    config: Config, layer_norms: dict[str, str], head_norms: dict[str, str]
) -> Iterator[Wanted | Computed]:
    widths = Widths.of(config)
    yield from embeddings(config, widths, tied=True, plus=1.0)
    for index in range(widths.layers):
        target, source = f"blk.{index}", f"model.layers.{index}"
        yield from norms(target, source, widths.embedding, layer_norms, plus=1.0)
        yield from norms(target, f"{source}.self_attn", widths.head, head_norms, plus=1.0)
        yield from attention(target, f"{source}.self_attn", widths)
        output = (f"{target}.attn_output", f"{source}.self_attn.o_proj")
        yield from linear(*output, widths.embedding, widths.query, bias=False)
        yield from gated_feed_forward(target, f"{source}.mlp", widths)


GEMMA: Final = Architecture("gemma", _gemma_metadata, _gemma_tensors)
GEMMA2: Final = Architecture("gemma2", _gemma2_metadata, _gemma2_tensors)
GEMMA3: Final = Architecture("gemma3", _gemma3_metadata, _gemma3_tensors)
