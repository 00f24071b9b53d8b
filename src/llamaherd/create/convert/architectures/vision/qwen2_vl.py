"""Qwen2-VL and Qwen2.5-VL: images of any size, whose parts have places in two dimensions.

Four neighbouring patches become one vector of the language model. In the newer encoder most layers
see windows of an image only, norms have no bias, and feed-forward layers a gate.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from llamaherd.create.convert.architectures.decoder import Widths, decoder_metadata, linear
from llamaherd.create.convert.architectures.qwen import QWEN2
from llamaherd.create.convert.architectures.rope import rope_kind, rope_parameters, rope_theta
from llamaherd.create.convert.architectures.vision.encoder import (
    Encoder,
    activation_key,
    norm,
    projector_metadata,
    scale,
)
from llamaherd.create.convert.architectures.vision.language import language_config, spellings
from llamaherd.create.convert.config import Config
from llamaherd.create.convert.folder import ModelFolder
from llamaherd.create.convert.plan import Architecture, Projector, Wanted
from llamaherd.create.convert.writer import Value

_NAME: Final = "qwen2vl"
_THETA: Final = 1_000_000.0

#: How many pairs of a head are turned by time, height and width, unless it is said.
_SECTIONS: Final = [16, 24, 24]

#: The language models' norms are configured, the encoders' are not.
_EPSILON: Final = 1e-6

#: Sides that libmtmd has fixed: of merged patches, and of windows in pixels.
_MERGED: Final = 2
_WINDOW: Final = 112

#: An image is taken for two equal frames of a video.
_FRAMES: Final = 2

#: Configurations say no size of an image, but libmtmd wants one to reckon memory from.
_IMAGE: Final = 560

_TOWER: Final = "visual"


def _metadata(config: Config) -> dict[str, Value]:
    config.require("hidden_act", "silu")
    config.require("use_sliding_window", False)
    parameters = rope_parameters(config)
    theta = rope_theta(config, parameters, _THETA)
    is_plain = rope_kind(parameters) in ("", "default", "mrope")
    rope = Config({"rope_theta": theta}) if is_plain else parameters
    metadata = decoder_metadata(config, _NAME, rope, theta=_THETA)
    return metadata | {f"{_NAME}.rope.dimension_sections": [*_sections(config, parameters), 0]}


def _sections(config: Config, parameters: Config) -> list[int]:
    sections = parameters.get("mrope_section") or _SECTIONS
    pairs = Widths.of(config).head // 2
    are_counts = isinstance(sections, list) and all(
        type(each) is int and each >= 0 for each in sections
    )
    if not are_counts or len(sections) != 3 or sum(sections) != pairs:
        raise parameters.wrong("mrope_section", f"3 counts that add up to {pairs}", sections)
    return list(sections)


def _encoder(vision: Config, feed_forward: int, width: str) -> Encoder:
    vision.require("temporal_patch_size", _FRAMES)
    vision.require("spatial_merge_size", _MERGED)
    for name in ("in_channels", "in_chans"):
        vision.require(name, 3)
    return Encoder(
        vision.count("depth"),
        vision.count(width),
        vision.count("num_heads"),
        feed_forward,
        _IMAGE,
        vision.count("patch_size"),
    ).checked(vision)


def _encoder_2(vision: Config) -> Encoder:
    wide = vision.count("embed_dim") * vision.count("mlp_ratio", default=4)
    return _encoder(vision, wide, "embed_dim")


def _encoder_25(vision: Config) -> Encoder:
    return _encoder(vision, vision.count("intermediate_size"), "hidden_size")


def _metadata_2(config: Config, folder: ModelFolder) -> dict[str, Value]:
    vision = config.section("vision_config")
    return projector_metadata(
        "qwen2vl_merger",
        _encoder_2(vision),
        folder,
        width=language_config(config).count("hidden_size"),
        epsilon=_EPSILON,
        activation=activation_key(vision, "quick_gelu"),
    )


def _metadata_25(config: Config, folder: ModelFolder) -> dict[str, Value]:
    vision = config.section("vision_config")
    vision.require("window_size", _WINDOW)
    encoder = _encoder_25(vision)
    return projector_metadata(
        "qwen2.5vl_merger",
        encoder,
        folder,
        width=language_config(config).count("hidden_size"),
        epsilon=_EPSILON,
        activation=activation_key(vision, "silu"),
    ) | {"clip.vision.n_wa_pattern": _period(vision, encoder)}


def _period(vision: Config, encoder: Encoder) -> int:
    """Every so many layers one sees all of the image, as libmtmd counts."""
    indexes = vision.get("fullatt_block_indexes")
    first = indexes[0] if isinstance(indexes, list) and indexes else None
    if type(first) is int and 0 <= first < encoder.layers:
        period = first + 1
        if indexes == list(range(first, encoder.layers, period)):
            return period
    expected = f"every so many of {encoder.layers} layers, from the first such one on"
    raise vision.wrong("fullatt_block_indexes", expected, indexes)


def _tensors_2(config: Config, folder: ModelFolder) -> Iterator[Wanted]:
    encoder = _encoder_2(config.section("vision_config"))
    width, wide = encoder.width, encoder.feed_forward
    yield from _frames(encoder)
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
    encoder = _encoder_25(config.section("vision_config"))
    width, wide = encoder.width, encoder.feed_forward
    yield from _frames(encoder)
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


def _frames(encoder: Encoder) -> Iterator[Wanted]:
    """A convolution over two frames is the sum of one over each."""
    source = (f"{_TOWER}.patch_embed.proj.weight",)
    shape = (encoder.width, 3, encoder.patch, encoder.patch)
    for frame, suffix in enumerate(("", ".1")):
        name = f"v.patch_embd.weight{suffix}"
        yield Wanted(name, source, shape, frames=_FRAMES, frame=frame, exact=True)


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
    merged = width * _MERGED**2
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
