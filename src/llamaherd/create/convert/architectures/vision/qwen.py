"""What the Qwens that see have in common: places in three dimensions, and frames of a video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from llamaherd.create.convert.architectures.decoder import Widths, decoder_metadata
from llamaherd.create.convert.architectures.rope import rope_kind, rope_parameters, rope_theta
from llamaherd.create.convert.architectures.vision.encoder import Encoder
from llamaherd.create.convert.config import Config
from llamaherd.create.convert.plan import Wanted
from llamaherd.create.convert.writer import Value

#: The encoders' norms have it fixed; that of the language models is configured.
EPSILON: Final = 1e-6

#: How many patches along a side become one vector, which libmtmd has fixed.
MERGED: Final = 2

#: An image is taken for so many equal frames of a video.
_FRAMES: Final = 2


def language_metadata(
    config: Config, name: str, *, theta: float, sections: Sequence[int]
) -> dict[str, Value]:
    """Of llama.cpp's architecture ``name``; ``theta`` and ``sections`` are what holds if the
    configuration doesn't say."""
    config.require("hidden_act", "silu")
    parameters = rope_parameters(config)
    is_plain = rope_kind(parameters) in ("", "default", "mrope")
    base = rope_theta(config, parameters, theta)
    rope = Config({"rope_theta": base}) if is_plain else parameters
    metadata = decoder_metadata(config, name, rope, theta=theta)
    found = _sections(config, parameters, sections)
    return metadata | {f"{name}.rope.dimension_sections": [*found, 0]}


def _sections(config: Config, parameters: Config, default: Sequence[int]) -> list[int]:
    """How many pairs of a head are turned by time, height and width."""
    sections = parameters.get("mrope_section") or list(default)
    pairs = Widths.of(config).head // 2
    are_counts = isinstance(sections, list) and all(
        type(each) is int and each >= 0 for each in sections
    )
    if not are_counts or len(sections) != 3 or sum(sections) != pairs:
        raise parameters.wrong("mrope_section", f"3 counts that add up to {pairs}", sections)
    return list(sections)


def encoder_of(vision: Config, *, width: str, feed_forward: int, image: int) -> Encoder:
    """``width`` names the width in the configuration; ``image`` is what libmtmd reckons with."""
    vision.require("temporal_patch_size", _FRAMES)
    vision.require("spatial_merge_size", MERGED)
    for name in ("in_channels", "in_chans"):
        vision.require(name, 3)
    return Encoder(
        vision.count("depth"),
        vision.count(width),
        vision.count("num_heads"),
        feed_forward,
        image,
        vision.count("patch_size"),
    ).checked(vision, turned=True)


def frames(encoder: Encoder, source: str) -> Iterator[Wanted]:
    """A convolution over two frames is the sum of one over each."""
    shape = (encoder.width, 3, encoder.patch, encoder.patch)
    for frame, suffix in enumerate(("", ".1")):
        name = f"v.patch_embd.weight{suffix}"
        stored = (f"{source}.weight",)
        yield Wanted(name, stored, shape, frames=_FRAMES, frame=frame, exact=True)
