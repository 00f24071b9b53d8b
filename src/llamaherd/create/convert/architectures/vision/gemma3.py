"""Gemma 3 with its eyes: SigLIP, whose patches are averaged in squares and then projected."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from llamaherd.create.convert.architectures.gemma import GEMMA3
from llamaherd.create.convert.architectures.vision.encoder import (
    SIGLIP,
    Encoder,
    activation_key,
    norm,
    projector_metadata,
    siglip_tower,
)
from llamaherd.create.convert.architectures.vision.language import language_config, spellings
from llamaherd.create.convert.config import Config
from llamaherd.create.convert.folder import ModelFolder
from llamaherd.create.convert.plan import Projector, Wanted
from llamaherd.create.convert.writer import Value

#: Of transformers' classes, for what the published configurations leave out.
_TEXT: Final = {
    "head_dim": 256,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "max_position_embeddings": 131_072,
    "num_attention_heads": 8,
    "num_hidden_layers": 26,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-6,
    "vocab_size": 262_208,
}
_MOST_TOKENS: Final = 256

_TOWER: Final = "vision_tower"
_PROJECTOR: Final = "multi_modal_projector"
#: A part of SigLIP that Gemma has no use for.
_HEAD: Final = re.compile(r"^(model\.)?vision_tower\.(vision_model\.)?head\.")


def _text(config: Config) -> Config:
    return language_config(config, _TEXT)


def _vision(config: Config) -> Config:
    return config.section("vision_config", defaults=SIGLIP)


def _metadata(config: Config, folder: ModelFolder) -> dict[str, Value]:
    vision = _vision(config)
    encoder = Encoder.of(vision)
    return projector_metadata(
        "gemma3",
        encoder,
        folder,
        width=_text(config).count("hidden_size"),
        epsilon=vision.number("layer_norm_eps"),
        activation=activation_key(vision),
    ) | {"clip.vision.projector.scale_factor": _pooled(config, encoder)}


def _pooled(config: Config, encoder: Encoder) -> int:
    """How many patches along a side are averaged to one."""
    tokens = config.count("mm_tokens_per_image", default=_MOST_TOKENS)
    side = math.isqrt(tokens)
    if side * side != tokens or encoder.side % side:
        expected = f"the square of a divisor of {encoder.side}, the patches along a side"
        raise config.wrong("mm_tokens_per_image", expected, tokens)
    return encoder.side // side


def _tensors(config: Config, folder: ModelFolder) -> Iterator[Wanted]:
    encoder = Encoder.of(_vision(config))
    yield from siglip_tower(encoder, _TOWER)
    yield from norm("v.post_ln", f"{_TOWER}.post_layernorm", encoder.width)
    shape = (encoder.width, _text(config).count("hidden_size"))
    # The engine transposes this matrix, which not every backend can do with BF16.
    projection = (f"{_PROJECTOR}.mm_input_projection_weight",)
    yield Wanted("mm.input_projection.weight", projection, shape, exact=True)
    before = (f"{_PROJECTOR}.mm_soft_emb_norm.weight",)
    yield Wanted("mm.soft_emb_norm.weight", before, (encoder.width,), plus=1.0)


GEMMA3_VISION: Final = replace(
    GEMMA3,
    text=_text,
    respell=spellings,
    ignored=_HEAD,
    projector=Projector(_metadata, _tensors),
)
