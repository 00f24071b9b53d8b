"""Nomic's BERT (nomic-embed-text v1 and v1.5): rotary positions and a gated feed-forward layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from llamaherd.create.convert.architectures.decoder import vocabulary_size
from llamaherd.create.convert.architectures.rope import rope_parameters, rope_theta
from llamaherd.create.convert.config import Config
from llamaherd.create.convert.plan import Architecture, Computed, Wanted
from llamaherd.create.convert.writer import Value

#: By the names of the first configurations, and by those of transformers 5.
_WIDTH: Final = ("n_embd", "hidden_size")
_WIDE: Final = ("n_inner", "intermediate_size")
_LAYERS: Final = ("n_layer", "num_hidden_layers")


def _metadata(config: Config) -> dict[str, Value]:
    config.require("activation_function", "swiglu")
    config.require("hidden_act", "silu")
    config.require("rotary_emb_fraction", 1.0)
    for name in ("prenorm", "causal", "rotary_emb_interleaved"):
        config.require(name, False)
    for name in ("moe_every_n_layers", "moe_top_k"):
        config.require(name, 0)
    return {
        "nomic-bert.block_count": config.count(*_LAYERS),
        "nomic-bert.context_length": _context(config),
        "nomic-bert.embedding_length": config.count(*_WIDTH),
        "nomic-bert.feed_forward_length": config.count(*_WIDE),
        "nomic-bert.attention.head_count": config.count("n_head", "num_attention_heads"),
        "nomic-bert.attention.layer_norm_epsilon": config.number(
            "layer_norm_epsilon", "layer_norm_eps", default=1e-12
        ),
        "nomic-bert.attention.causal": False,
        "nomic-bert.rope.freq_base": _theta(config),
        "tokenizer.ggml.token_type_count": config.count("type_vocab_size", default=2),
    }


def _theta(config: Config) -> float:
    if config.get("rotary_emb_base") is not None:
        return config.number("rotary_emb_base")
    return rope_theta(config, rope_parameters(config), 1000.0)


def _context(config: Config) -> int:
    """As many positions as it was trained for; it claims more, by scaling that llama.cpp lacks."""
    claimed = config.count("n_positions", "max_position_embeddings")
    return min(claimed, config.count("max_trained_positions", default=claimed))


def _tensors(config: Config) -> Iterator[Wanted | Computed]:
    width, wide = config.count(*_WIDTH), config.count(*_WIDE)
    words = (vocabulary_size(config), width)
    kinds = (config.count("type_vocab_size", default=2), width)
    source = "embeddings."
    yield Wanted("token_embd.weight", (f"{source}word_embeddings.weight",), words)
    yield Wanted(
        "token_types.weight", (f"{source}token_type_embeddings.weight",), kinds, exact=True
    )
    yield from _norm("token_embd_norm", "emb_ln", width)
    for index in range(config.count(*_LAYERS)):
        target, source = f"blk.{index}", f"encoder.layers.{index}"
        for own, theirs, shape in (
            ("attn_qkv", "attn.Wqkv", (3 * width, width)),
            ("attn_output", "attn.out_proj", (width, width)),
            ("ffn_up", "mlp.fc11", (wide, width)),
            ("ffn_gate", "mlp.fc12", (wide, width)),
            ("ffn_down", "mlp.fc2", (width, wide)),
        ):
            yield Wanted(f"{target}.{own}.weight", (f"{source}.{theirs}.weight",), shape)
        yield from _norm(f"{target}.attn_output_norm", f"{source}.norm1", width)
        yield from _norm(f"{target}.layer_output_norm", f"{source}.norm2", width)


def _norm(target: str, source: str, width: int) -> Iterator[Wanted]:
    for part in ("weight", "bias"):
        yield Wanted(f"{target}.{part}", (f"{source}.{part}",), (width,))


NOMIC_BERT: Final = Architecture("nomic-bert", _metadata, _tensors)
