"""BERT and RoBERTa, which turn texts into vectors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Final

from llamaherd.create.convert.architectures.decoder import vocabulary_size
from llamaherd.create.convert.config import Config
from llamaherd.create.convert.plan import Architecture, Computed, Wanted
from llamaherd.create.convert.writer import Value

_NAME: Final = "bert"

#: Heads of other tasks, and what was stored though it never changes.
_IGNORED: Final = re.compile(r"^(\w+\.)?(pooler|cls|lm_head)\.")


def _metadata(config: Config, padding: bool) -> dict[str, Value]:
    config.require("hidden_act", "gelu")
    config.require("position_embedding_type", "absolute")
    return {
        "bert.block_count": config.count("num_hidden_layers"),
        "bert.context_length": _positions(config, padding),
        "bert.embedding_length": config.count("hidden_size"),
        "bert.feed_forward_length": config.count("intermediate_size"),
        "bert.attention.head_count": _heads(config),
        "bert.attention.layer_norm_epsilon": config.number("layer_norm_eps", default=1e-12),
        "bert.attention.causal": False,
        "tokenizer.ggml.token_type_count": config.count("type_vocab_size", default=2),
    }


def _heads(config: Config) -> int:
    heads, width = config.count("num_attention_heads"), config.count("hidden_size")
    if width % heads:
        raise config.wrong("num_attention_heads", f"a divisor of hidden_size, {width}", heads)
    return heads


def _offset(config: Config, padding: bool) -> int:
    """RoBERTa counts positions from behind the number of its padding token."""
    return config.count("pad_token_id", default=1, least=0) + 1 if padding else 0


def _positions(config: Config, padding: bool) -> int:
    stored, offset = config.count("max_position_embeddings"), _offset(config, padding)
    if stored <= offset:
        raise config.wrong("max_position_embeddings", f"more than {offset}", stored)
    return stored - offset


def _tensors(config: Config, padding: bool) -> Iterator[Wanted | Computed]:
    width = config.count("hidden_size")
    wide = config.count("intermediate_size")
    words = (vocabulary_size(config), width)
    positions = (_positions(config, padding), width)
    kinds = (config.count("type_vocab_size", default=2), width)
    source = "embeddings."
    yield Wanted("token_embd.weight", (f"{source}word_embeddings.weight",), words)
    yield Wanted(
        "position_embd.weight",
        (f"{source}position_embeddings.weight",),
        positions,
        skip_rows=_offset(config, padding),
        exact=True,
    )
    yield Wanted(
        "token_types.weight", (f"{source}token_type_embeddings.weight",), kinds, exact=True
    )
    yield from _pair("token_embd_norm", f"{source}LayerNorm", (width,))
    for index in range(config.count("num_hidden_layers")):
        source = f"encoder.layer.{index}."
        for own, theirs, shape in (
            ("attn_q", "attention.self.query", (width, width)),
            ("attn_k", "attention.self.key", (width, width)),
            ("attn_v", "attention.self.value", (width, width)),
            ("attn_output", "attention.output.dense", (width, width)),
            ("attn_output_norm", "attention.output.LayerNorm", (width,)),
            ("ffn_up", "intermediate.dense", (wide, width)),
            ("ffn_down", "output.dense", (width, wide)),
            ("layer_output_norm", "output.LayerNorm", (width,)),
        ):
            yield from _pair(f"blk.{index}.{own}", f"{source}{theirs}", shape)


def _pair(target: str, source: str, shape: tuple[int, ...]) -> Iterator[Wanted]:
    yield Wanted(f"{target}.weight", (f"{source}.weight",), shape)
    yield Wanted(f"{target}.bias", (f"{source}.bias",), shape[:1])


def _respell(name: str) -> Iterator[str]:
    """The first checkpoints call the parts of a norm as TensorFlow did."""
    yield name
    if "LayerNorm." in name:
        yield (
            name.removesuffix("weight") + "gamma"
            if name.endswith("weight")
            else (name.removesuffix("bias") + "beta")
        )


BERT: Final = Architecture(
    _NAME,
    partial(_metadata, padding=False),
    partial(_tensors, padding=False),
    prefixes=("", "bert."),
    respell=_respell,
    ignored=_IGNORED,
)
ROBERTA: Final = Architecture(
    _NAME,
    partial(_metadata, padding=True),
    partial(_tensors, padding=True),
    prefixes=("", "roberta."),
    ignored=_IGNORED,
)
