"""Pixtral 12B and Mistral Small 3.1: images of any size, with a token after each row of parts.

That token's vector is a part of the projector, as it stands between vectors of an image. In Mistral
Small, neighbouring patches become one first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from llamaherd.create.convert.architectures.decoder import linear, vocabulary_size
from llamaherd.create.convert.architectures.rope import rope_parameters, rope_theta
from llamaherd.create.convert.architectures.vision.encoder import (
    Encoder,
    activation_key,
    expect,
    patches,
    projector_metadata,
    scale,
)
from llamaherd.create.convert.architectures.vision.language import named_language, seeing
from llamaherd.create.convert.config import Config
from llamaherd.create.convert.folder import ModelFolder
from llamaherd.create.convert.plan import Architecture, Projector, Wanted
from llamaherd.create.convert.tokenizers import token_number
from llamaherd.create.convert.writer import Value

MODEL_TYPE: Final = "pixtral"

_DEFAULTS: Final = {
    "hidden_act": "gelu",
    "hidden_size": 1024,
    "image_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "patch_size": 16,
}

#: Of the encoder's norms, fixed in transformers; libmtmd has no other for the projector's.
_EPSILON: Final = 1e-5
_THETA: Final = 10_000.0

_ROW_END: Final = "[IMG_BREAK]"

_TOWER: Final = "vision_tower"
_PROJECTOR: Final = "multi_modal_projector"


def pixtral(config: Config) -> Architecture:
    """A LLaVA with this encoder. Raises ``BadRequest`` for parts that aren't known."""
    return seeing(config, Projector(_metadata, _tensors))


def mistral3(config: Config) -> Architecture:
    """Raises ``BadRequest`` for parts that aren't known."""
    return seeing(config, Projector(_merging_metadata, _merging_tensors))


def _vision(config: Config) -> Config:
    return config.section("vision_config", defaults=_DEFAULTS)


def _metadata(config: Config, folder: ModelFolder) -> dict[str, Value]:
    expect(config, "vision_feature_select_strategy", "full", default="default")
    expect(config, "vision_feature_layer", -1, default=-2)
    return _common_metadata(config, folder)


def _merging_metadata(config: Config, folder: ModelFolder) -> dict[str, Value]:
    expect(named_language(config), "rms_norm_eps", _EPSILON, default=1e-6)
    expect(config, "vision_feature_layer", -1, default=-1)
    return _common_metadata(config, folder) | {"clip.vision.spatial_merge_size": _merged(config)}


def _merged(config: Config) -> int:
    """How many patches along a side become one."""
    return config.count("spatial_merge_size", default=2)


def _common_metadata(config: Config, folder: ModelFolder) -> dict[str, Value]:
    config.require("projector_hidden_act", "gelu")
    vision = _vision(config)
    vision.require("model_type", MODEL_TYPE)
    theta = rope_theta(vision, rope_parameters(vision), _THETA)
    if theta != _THETA:
        raise vision.wrong("rope_theta", f"{_THETA}, as the engine has it", theta)
    return projector_metadata(
        "pixtral",
        Encoder.of(vision, turned=True),
        folder,
        width=named_language(config).count("hidden_size"),
        epsilon=_EPSILON,
        activation=activation_key(vision),
    )


def _tensors(config: Config, folder: ModelFolder) -> Iterator[Wanted]:
    yield from _encoder(config)
    yield from _projection(config, bias=config.flag("multimodal_projector_bias", default=True))
    yield _row_end(config, folder)


def _merging_tensors(config: Config, folder: ModelFolder) -> Iterator[Wanted]:
    width = Encoder.of(_vision(config)).width
    yield from _encoder(config)
    yield scale("mm.input_norm", f"{_PROJECTOR}.norm", width)
    merger = (f"{_PROJECTOR}.patch_merger.merging_layer.weight",)
    shape = (width, width * _merged(config) ** 2)
    yield Wanted("mm.patch_merger.weight", merger, shape, exact=True)
    yield from _projection(config, bias=config.flag("multimodal_projector_bias", default=False))
    yield _row_end(config, folder)


def _encoder(config: Config) -> Iterator[Wanted]:
    encoder = Encoder.of(_vision(config))
    width, wide = encoder.width, encoder.feed_forward
    yield patches(encoder, f"{_TOWER}.patch_conv")
    yield scale("v.pre_ln", f"{_TOWER}.ln_pre", width)
    for index in range(encoder.layers):
        own, theirs = f"v.blk.{index}", f"{_TOWER}.transformer.layers.{index}"
        yield scale(f"{own}.ln1", f"{theirs}.attention_norm", width)
        yield scale(f"{own}.ln2", f"{theirs}.ffn_norm", width)
        for part, heads in (("q", encoder.heads), ("k", encoder.heads), ("v", 0)):
            matrix = (f"{theirs}.attention.{part}_proj.weight",)
            yield Wanted(f"{own}.attn_{part}.weight", matrix, (width, width), heads=heads)
        output = (f"{theirs}.attention.o_proj.weight",)
        yield Wanted(f"{own}.attn_out.weight", output, (width, width))
        for part, rows, columns in (
            ("gate", wide, width),
            ("up", wide, width),
            ("down", width, wide),
        ):
            matrix = (f"{theirs}.feed_forward.{part}_proj.weight",)
            yield Wanted(f"{own}.ffn_{part}.weight", matrix, (rows, columns))


def _projection(config: Config, *, bias: bool) -> Iterator[Wanted]:
    columns = Encoder.of(_vision(config)).width
    width = named_language(config).count("hidden_size")
    yield from linear("mm.1", f"{_PROJECTOR}.linear_1", width, columns, bias=bias)
    yield from linear("mm.2", f"{_PROJECTOR}.linear_2", width, width, bias=bias)


def _row_end(config: Config, folder: ModelFolder) -> Wanted:
    text = named_language(config)
    rows, number = vocabulary_size(text), token_number(folder, _ROW_END)
    if number >= rows:
        raise text.wrong("vocab_size", f"more than {number}, the number of {_ROW_END}", rows)
    return Wanted(
        "v.token_embd.img_break",
        ("model.embed_tokens.weight",),
        (1, text.count("hidden_size")),
        skip_rows=number,
        spare_rows=rows - number - 1,
        exact=True,
    )
