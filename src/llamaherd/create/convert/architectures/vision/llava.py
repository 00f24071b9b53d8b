"""LLaVA 1.5 and its kin: CLIP or SigLIP, and two linear layers into any language model.

Images of one size become one vector a patch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from llamaherd.create.convert.architectures.decoder import linear
from llamaherd.create.convert.architectures.vision import pixtral
from llamaherd.create.convert.architectures.vision.encoder import (
    CLIP,
    SIGLIP,
    Encoder,
    activation_key,
    clip_layers,
    expect,
    norm,
    patches,
    positions,
    projector_metadata,
    siglip_tower,
)
from llamaherd.create.convert.architectures.vision.language import named_language, seeing
from llamaherd.create.convert.config import Config
from llamaherd.create.convert.folder import ModelFolder
from llamaherd.create.convert.plan import Architecture, Projector, Wanted
from llamaherd.create.convert.writer import Value

_CLIP: Final = "clip_vision_model"
_SIGLIP: Final = "siglip_vision_model"
_DEFAULTS: Final[dict[str, Mapping[str, Any]]] = {_CLIP: CLIP, _SIGLIP: SIGLIP}

#: What comes after the layers from which the projector takes: the engine would apply it.
_UNUSED: Final = re.compile(r"^(model\.)?vision_tower\.(vision_model\.)?(post_layernorm|head)\.")

_TOWER: Final = "vision_tower"
_PROJECTOR: Final = "multi_modal_projector"


def llava(config: Config) -> Architecture:
    """Raises ``BadRequest`` for parts that aren't known."""
    if config.section("vision_config").get("model_type") == pixtral.MODEL_TYPE:
        return pixtral.pixtral(config)
    return replace(seeing(config, Projector(_metadata, _tensors)), ignored=_UNUSED)


def _kind(config: Config) -> str:
    vision = config.section("vision_config")
    kind = vision.text("model_type", default=_CLIP)
    if kind not in _DEFAULTS:
        known = ", ".join((*_DEFAULTS, pixtral.MODEL_TYPE))
        raise vision.wrong("model_type", f"one of {known}", kind)
    return kind


def _vision(config: Config) -> Config:
    return config.section("vision_config", defaults=_DEFAULTS[_kind(config)])


def _metadata(config: Config, folder: ModelFolder) -> dict[str, Value]:
    config.require("projector_hidden_act", "gelu")
    config.require("multimodal_projector_bias", True)
    # The engine leaves out the class token where there is one, and nothing else.
    strategy = "default" if _kind(config) == _CLIP else "full"
    expect(config, "vision_feature_select_strategy", strategy, default="default")
    vision = _vision(config)
    encoder = Encoder.of(vision)
    return projector_metadata(
        "mlp",
        encoder,
        folder,
        width=named_language(config).count("hidden_size"),
        epsilon=vision.number("layer_norm_eps"),
        activation=activation_key(vision),
    ) | {"clip.vision.feature_layer": [_feature_layer(config, encoder)]}


def _feature_layer(config: Config, encoder: Encoder) -> int:
    """After how many layers the vectors of the patches are taken; below 0, it counts from the
    last."""
    layer = config.get("vision_feature_layer")
    after = -2 if layer is None else layer
    if type(after) is int and after < 0:
        after += encoder.layers + 1
    if type(after) is not int or not 1 <= after <= encoder.layers:
        raise config.wrong("vision_feature_layer", f"one of {encoder.layers} layers", layer)
    return after


def _tensors(config: Config, folder: ModelFolder) -> Iterator[Wanted]:
    encoder = Encoder.of(_vision(config))
    tower = _clip_tower if _kind(config) == _CLIP else siglip_tower
    yield from tower(encoder, _TOWER)
    width = named_language(config).count("hidden_size")
    yield from linear("mm.0", f"{_PROJECTOR}.linear_1", width, encoder.width, bias=True)
    yield from linear("mm.2", f"{_PROJECTOR}.linear_2", width, width, bias=True)


def _clip_tower(encoder: Encoder, source: str) -> Iterator[Wanted]:
    """CLIP without the norm at its end."""
    embeddings = f"{source}.embeddings"
    yield patches(encoder, f"{embeddings}.patch_embedding")
    yield Wanted("v.class_embd", (f"{embeddings}.class_embedding",), (encoder.width,))
    yield positions(encoder, f"{embeddings}.position_embedding", more=1)
    # Its authors spelt it so.
    yield from norm("v.pre_ln", f"{source}.pre_layrnorm", encoder.width)
    yield from clip_layers(encoder, f"{source}.encoder.layers")
