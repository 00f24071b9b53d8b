"""Qwen2-VL and Qwen2.5-VL: images of any size, whose parts have places in two dimensions.

Four neighbouring patches become one vector of the language model. In the newer encoder most layers
see windows of an image only, norms have no bias, and feed-forward layers a gate.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from llamaherd.create.convert.architectures.decoder import linear
from llamaherd.create.convert.architectures.qwen import QWEN2
from llamaherd.create.convert.architectures.vision.encoder import (
    Encoder,
    activation_key,
    norm,
    projector_metadata,
    scale,
)
from llamaherd.create.convert.architectures.vision.language import language_config, spellings
from llamaherd.create.convert.architectures.vision.qwen import (
    EPSILON,
    MERGED,
    encoder_of,
    frames,
    language_metadata,
)
from llamaherd.create.convert.config import Config
from llamaherd.create.convert.folder import ModelFolder
from llamaherd.create.convert.plan import Architecture, Projector, Wanted
from llamaherd.create.convert.writer import Value

_NAME: Final = "qwen2vl"
_THETA: Final = 1_000_000.0
_SECTIONS: Final = (16, 24, 24)

#: The side of a window, in pixels, which libmtmd has fixed.
_WINDOW: Final = 112

#: Configurations say no size of an image, but libmtmd wants one to reckon memory from.
_IMAGE: Final = 560

_TOWER: Final = "visual"


def _metadata(config: Config) -> dict[str, Value]:
    config.require("use_sliding_window", False)
    return language_metadata(config, _NAME, theta=_THETA, sections=_SECTIONS)


def _vision_2(config: Config) -> Config:
    return config.section("vision_config", defaults={"hidden_act": "quick_gelu"})


def _vision_25(config: Config) -> Config:
    return config.section("vision_config", defaults={"hidden_act": "silu"})


def _encoder_2(vision: Config) -> Encoder:
    wide = vision.count("embed_dim") * vision.count("mlp_ratio", default=4)
    return encoder_of(vision, width="embed_dim", feed_forward=wide, image=_IMAGE)


def _encoder_25(vision: Config) -> Encoder:
    wide = vision.count("intermediate_size")
    return encoder_of(vision, width="hidden_size", feed_forward=wide, image=_IMAGE)


def _metadata_2(config: Config, folder: ModelFolder) -> dict[str, Value]:
    vision = _vision_2(config)
    return projector_metadata(
        "qwen2vl_merger",
        _encoder_2(vision),
        folder,
        width=language_config(config).count("hidden_size"),
        epsilon=EPSILON,
        activation=activation_key(vision),
    )


def _metadata_25(config: Config, folder: ModelFolder) -> dict[str, Value]:
    vision = _vision_25(config)
    vision.require("window_size", _WINDOW)
    encoder = _encoder_25(vision)
    return projector_metadata(
        "qwen2.5vl_merger",
        encoder,
        folder,
        width=language_config(config).count("hidden_size"),
        epsilon=EPSILON,
        activation=activation_key(vision),
    ) | {"clip.vision.n_wa_pattern": _period(vision, encoder)}


def _period(vision: Config, encoder: Encoder) -> int:
    """Every so many layers one sees all of the image, as libmtmd counts."""
    indexes = vision.get("fullatt_block_indexes")
    first = indexes[0] if isinstance(indexes, list) and indexes else None
    if type(first) is int and 0 <= first < encoder.layers:
        expected = range(first, encoder.layers, first + 1)
        if len(indexes) == len(expected) and indexes == list(expected):
            return first + 1
    wanted = f"every so many of {encoder.layers} layers, from the first such one on"
    raise vision.wrong("fullatt_block_indexes", wanted, indexes)


def _tensors_2(config: Config, folder: ModelFolder) -> Iterator[Wanted]:
    encoder = _encoder_2(_vision_2(config))
    width, wide = encoder.width, encoder.feed_forward
    yield from frames(encoder, f"{_TOWER}.patch_embed.proj")
    for index in range(encoder.layers):
        own, theirs = f"v.blk.{index}", f"{_TOWER}.blocks.{index}"
        yield from norm(f"{own}.ln1", f"{theirs}.norm1", width)
        yield from norm(f"{own}.ln2", f"{theirs}.norm2", width)
        yield from _attention(own, theirs, width)
        yield from linear(f"{own}.ffn_up", f"{theirs}.mlp.fc1", wide, width, bias=True)
        yield from linear(f"{own}.ffn_down", f"{theirs}.mlp.fc2", width, wide, bias=True)
    yield from norm("v.post_ln", f"{_TOWER}.merger.ln_q", width)
    yield from _merger(config, width)


def _tensors_25(config: Config, folder: ModelFolder) -> Iterator[Wanted]:
    encoder = _encoder_25(_vision_25(config))
    width, wide = encoder.width, encoder.feed_forward
    yield from frames(encoder, f"{_TOWER}.patch_embed.proj")
    for index in range(encoder.layers):
        own, theirs = f"v.blk.{index}", f"{_TOWER}.blocks.{index}"
        yield scale(f"{own}.ln1", f"{theirs}.norm1", width)
        yield scale(f"{own}.ln2", f"{theirs}.norm2", width)
        yield from _attention(own, theirs, width)
        for part, rows, columns in (
            ("gate", wide, width),
            ("up", wide, width),
            ("down", width, wide),
        ):
            matrix = f"{theirs}.mlp.{part}_proj"
            yield from linear(f"{own}.ffn_{part}", matrix, rows, columns, bias=True)
    yield scale("v.post_ln", f"{_TOWER}.merger.ln_q", width)
    yield from _merger(config, width)


def _attention(target: str, source: str, width: int) -> Iterator[Wanted]:
    """Queries, keys and values are stored as one matrix, from top to bottom."""
    for index, part in enumerate("qkv"):
        before, after = index * width, (2 - index) * width
        for kind, shape in (("weight", (width, width)), ("bias", (width,))):
            stored = (f"{source}.attn.qkv.{kind}",)
            name = f"{target}.attn_{part}.{kind}"
            yield Wanted(name, stored, shape, skip_rows=before, spare_rows=after)
    yield from linear(f"{target}.attn_out", f"{source}.attn.proj", width, width, bias=True)


def _merger(config: Config, width: int) -> Iterator[Wanted]:
    merged = width * MERGED**2
    embedding = language_config(config).count("hidden_size")
    yield from linear("mm.0", f"{_TOWER}.merger.mlp.0", merged, merged, bias=True)
    yield from linear("mm.2", f"{_TOWER}.merger.mlp.2", embedding, merged, bias=True)


def _architecture(projector: Projector) -> Architecture:
    return Architecture(
        _NAME,
        _metadata,
        QWEN2.tensors,
        respell=spellings,
        text=language_config,
        projector=projector,
    )


QWEN2_VL: Final = _architecture(Projector(_metadata_2, _tensors_2))
QWEN25_VL: Final = _architecture(Projector(_metadata_25, _tensors_25))
