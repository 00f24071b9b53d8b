"""Idefics 3 and SmolVLM: an image is cut into tiles, and comes whole beside them.

Of each, neighbouring patches are put together and projected. The encoder is SigLIP.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from llamaherd.create.convert.architectures.vision.encoder import (
    MAX_IMAGE,
    Encoder,
    activation_key,
    image_processor,
    norm,
    projector_metadata,
    siglip_tower,
)
from llamaherd.create.convert.architectures.vision.language import named_language, seeing
from llamaherd.create.convert.config import Config
from llamaherd.create.convert.folder import ModelFolder
from llamaherd.create.convert.plan import Architecture, Projector, Wanted
from llamaherd.create.convert.tokenizers import token_number
from llamaherd.create.convert.writer import Value

_DEFAULTS: Final = {
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 1152,
    "image_size": 224,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-6,
    "num_attention_heads": 16,
    "num_hidden_layers": 12,
    "patch_size": 32,
}

_TOWER: Final = "vision_model"
_AROUND: Final = ("<fake_token_around_image>", "<global-img>")


def idefics3(config: Config) -> Architecture:
    """Raises ``BadRequest`` for a language model that isn't known."""
    return seeing(config, Projector(_metadata, _tensors))


def _vision(config: Config) -> Config:
    return config.section("vision_config", defaults=_DEFAULTS)


def _metadata(config: Config, folder: ModelFolder) -> dict[str, Value]:
    for token in _AROUND:
        # libmtmd ends the process when it can't put them around an image.
        token_number(folder, token)
    vision = _vision(config)
    encoder = Encoder.of(vision)
    return projector_metadata(
        "idefics3",
        encoder,
        folder,
        width=named_language(config).count("hidden_size"),
        epsilon=vision.number("layer_norm_eps"),
        activation=activation_key(vision),
    ) | {
        "clip.vision.projector.scale_factor": _merged(config, encoder),
        "clip.vision.preproc_image_size": _longest_edge(image_processor(folder), encoder),
    }


def _merged(config: Config, encoder: Encoder) -> int:
    """How many patches along a side become one vector."""
    count = config.count("scale_factor", default=2)
    if encoder.side % count:
        expected = f"a divisor of {encoder.side}, the patches along a side"
        raise config.wrong("scale_factor", expected, count)
    return count


def _longest_edge(processor: Config, encoder: Encoder) -> int:
    """To how many pixels the longer side of an image is brought before it is cut into tiles."""
    tiles = processor.section("max_image_size")
    if tiles.count("longest_edge", default=encoder.image) != encoder.image:
        expected = f"{encoder.image}, the size of the encoder's images"
        raise tiles.wrong("longest_edge", expected, tiles.get("longest_edge"))
    size = processor.section("size")
    edge = size.count("longest_edge", default=encoder.image)
    if not encoder.image <= edge <= MAX_IMAGE:
        expected = f"between {encoder.image}, the size of a tile, and {MAX_IMAGE}"
        raise size.wrong("longest_edge", expected, edge)
    return edge


def _tensors(config: Config, folder: ModelFolder) -> Iterator[Wanted]:
    encoder = Encoder.of(_vision(config))
    yield from siglip_tower(encoder, _TOWER)
    yield from norm("v.post_ln", f"{_TOWER}.post_layernorm", encoder.width)
    shape = (
        named_language(config).count("hidden_size"),
        encoder.width * _merged(config, encoder) ** 2,
    )
    projection = ("connector.modality_projection.proj.weight",)
    yield Wanted("mm.model.fc.weight", projection, shape)
