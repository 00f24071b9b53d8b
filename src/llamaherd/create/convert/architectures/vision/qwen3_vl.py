"""Qwen3-VL, the dense ones: vectors of an image from several layers of the encoder.

Those of the last layer are read like words. The others are added to what the first layers of the
language model make of them, one after another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from llamaherd.create.convert.architectures.decoder import linear
from llamaherd.create.convert.architectures.qwen import QWEN3
from llamaherd.create.convert.architectures.rope import rope_parameters
from llamaherd.create.convert.architectures.vision.encoder import (
    Encoder,
    activation_key,
    norm,
    positions,
    projector_metadata,
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

_NAME: Final = "qwen3vl"
_THETA: Final = 500_000.0
_SECTIONS: Final = (24, 20, 20)

_TAKEN: Final = "deepstack_visual_indexes"
_TOWER: Final = "visual"


def _vision(config: Config) -> Config:
    return config.section("vision_config", defaults={"hidden_act": "gelu_pytorch_tanh"})


def _text(config: Config) -> Config:
    """The language model must know how many layers of the encoder it is given."""
    taken = _vision(config).get(_TAKEN)
    return language_config(config).over({_TAKEN: taken})


def _metadata(config: Config) -> dict[str, Value]:
    rope_parameters(config).require("mrope_interleaved", True)
    taken = config.get(_TAKEN)
    metadata = language_metadata(config, _NAME, theta=_THETA, sections=_SECTIONS)
    return metadata | {f"{_NAME}.n_deepstack_layers": len(taken) if taken else 0}


def _encoder(vision: Config) -> Encoder:
    places = vision.count("num_position_embeddings")
    side = math.isqrt(places)
    if side * side != places:
        raise vision.wrong("num_position_embeddings", "a square number", places)
    wide, image = vision.count("intermediate_size"), side * vision.count("patch_size")
    return encoder_of(vision, width="hidden_size", feed_forward=wide, image=image)


def _taken(vision: Config, encoder: Encoder) -> list[int]:
    """The layers that vectors are taken from beside the last, in order."""
    indexes = vision.get(_TAKEN) or []
    are_numbers = isinstance(indexes, list) and all(type(each) is int for each in indexes)
    if not are_numbers or any(
        not before < each < encoder.layers
        for before, each in zip([-1, *indexes], indexes, strict=False)
    ):
        expected = f"some of {encoder.layers} layers, each but once and in order"
        raise vision.wrong(_TAKEN, expected, indexes)
    return list(indexes)


def _projector_metadata(config: Config, folder: ModelFolder) -> dict[str, Value]:
    vision = _vision(config)
    return projector_metadata(
        "qwen3vl_merger",
        _encoder(vision),
        folder,
        width=language_config(config).count("hidden_size"),
        epsilon=EPSILON,
        activation=activation_key(vision),
    ) | {"clip.vision.spatial_merge_size": MERGED}


def _projector_tensors(config: Config, folder: ModelFolder) -> Iterator[Wanted]:
    vision = _vision(config)
    encoder = _encoder(vision)
    width, wide, merged = encoder.width, encoder.feed_forward, encoder.width * MERGED**2
    yield from frames(encoder, f"{_TOWER}.patch_embed.proj")
    yield Wanted("v.patch_embd.bias", (f"{_TOWER}.patch_embed.proj.bias",), (width,))
    yield positions(encoder, f"{_TOWER}.pos_embed")
    for index in range(encoder.layers):
        own, theirs = f"v.blk.{index}", f"{_TOWER}.blocks.{index}"
        yield from norm(f"{own}.ln1", f"{theirs}.norm1", width)
        yield from norm(f"{own}.ln2", f"{theirs}.norm2", width)
        yield from linear(f"{own}.attn_qkv", f"{theirs}.attn.qkv", 3 * width, width, bias=True)
        yield from linear(f"{own}.attn_out", f"{theirs}.attn.proj", width, width, bias=True)
        yield from linear(f"{own}.ffn_up", f"{theirs}.mlp.linear_fc1", wide, width, bias=True)
        yield from linear(f"{own}.ffn_down", f"{theirs}.mlp.linear_fc2", width, wide, bias=True)
    yield from norm("v.post_ln", f"{_TOWER}.merger.norm", width)
    embedding = language_config(config).count("hidden_size")
    yield from _merger(("mm.0", "mm.2"), f"{_TOWER}.merger", merged, embedding)
    for number, index in enumerate(_taken(vision, encoder)):
        own, theirs = f"v.deepstack.{index}", f"{_TOWER}.deepstack_merger_list.{number}"
        yield from norm(f"{own}.norm", f"{theirs}.norm", merged)
        yield from _merger((f"{own}.fc1", f"{own}.fc2"), theirs, merged, embedding)


def _merger(targets: tuple[str, str], source: str, merged: int, rows: int) -> Iterator[Wanted]:
    yield from linear(targets[0], f"{source}.linear_fc1", merged, merged, bias=True)
    yield from linear(targets[1], f"{source}.linear_fc2", rows, merged, bias=True)


QWEN3_VL: Final = Architecture(
    _NAME,
    _metadata,
    QWEN3.tensors,
    respell=spellings,
    text=_text,
    projector=Projector(_projector_metadata, _projector_tensors),
)
