"""What vision encoders have in common, and what libmtmd must know of any of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from llamaherd.create.convert.architectures.decoder import linear
from llamaherd.create.convert.config import Config
from llamaherd.create.convert.folder import ModelFolder
from llamaherd.create.convert.plan import Wanted
from llamaherd.create.convert.writer import Value

#: The first is where the settings of an image processor are in most folders, the second where
#: transformers 5 writes them, in a section.
_IMAGE_PROCESSOR: Final = "preprocessor_config.json"
_PROCESSOR: Final = "processor_config.json"

#: libmtmd divides by 255, and rounding may make a little of that.
_RESCALED: Final = 1 / 255
_SAME: Final = 1e-6

#: The largest image that libmtmd takes, in pixels along a side.
MAX_IMAGE: Final = 8192

#: transformers' names, and the key that says so. llama.cpp knows GELU by its approximation only.
_ACTIVATIONS: Final = {
    "gelu": "clip.use_gelu",
    "gelu_pytorch_tanh": "clip.use_gelu",
    "silu": "clip.use_silu",
    "quick_gelu": "",
}

#: What transformers' classes have for what a configuration leaves out.
SIGLIP: Final = {
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 768,
    "image_size": 224,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-6,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "patch_size": 16,
}
CLIP: Final = {**SIGLIP, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "patch_size": 32}


@dataclass(frozen=True, slots=True)
class Encoder:
    """Sizes of a vision transformer; ``image`` and ``patch`` are sides, in pixels."""

    layers: int
    width: int
    heads: int
    feed_forward: int
    image: int
    patch: int

    @classmethod
    def of(cls, config: Config, *, turned: bool = False) -> Encoder:
        """By the names of CLIP, SigLIP and Pixtral; see ``checked``."""
        config.require("num_channels", 3)
        return cls(
            config.count("num_hidden_layers"),
            config.count("hidden_size"),
            config.count("num_attention_heads"),
            config.count("intermediate_size"),
            config.count("image_size"),
            config.count("patch_size"),
        ).checked(config, turned=turned)

    def checked(self, config: Config, *, turned: bool) -> Encoder:
        """Itself; raises ``BadRequest`` for numbers that don't go together or that libmtmd can't
        have. ``turned`` says that heads are turned by two places, so each has pairs for both."""
        if self.width % (self.heads * (4 if turned else 1)):
            of_each = ", of 4 numbers or a multiple of that" if turned else ""
            expected = f"a multiple of {self.heads} heads{of_each}"
            raise config.wrong("hidden_size", expected, self.width)
        if self.feed_forward == self.width:
            # It takes such layers for those of old files, which have both matrices exchanged.
            raise config.wrong("intermediate_size", f"other than {self.width}", self.width)
        if not self.patch <= self.image <= MAX_IMAGE:
            expected = f"between patch_size, {self.patch}, and {MAX_IMAGE}"
            raise config.wrong("image_size", expected, self.image)
        return self

    @property
    def side(self) -> int:
        """How many patches are along a side of an image."""
        return self.image // self.patch


def projector_metadata(
    kind: str, encoder: Encoder, folder: ModelFolder, *, width: int, epsilon: float, activation: str
) -> dict[str, Value]:
    """``kind`` is libmtmd's name of the projector, ``width`` that of the language model's
    embeddings, and ``activation`` what ``activation_key`` found."""
    metadata: dict[str, Value] = {
        "clip.has_vision_encoder": True,
        "clip.projector_type": kind,
        "clip.vision.block_count": encoder.layers,
        "clip.vision.embedding_length": encoder.width,
        "clip.vision.feed_forward_length": encoder.feed_forward,
        "clip.vision.attention.head_count": encoder.heads,
        "clip.vision.attention.layer_norm_epsilon": epsilon,
        "clip.vision.image_size": encoder.image,
        "clip.vision.patch_size": encoder.patch,
        "clip.vision.projection_dim": width,
    }
    if activation:
        metadata[activation] = True
    return metadata | _normalisation(image_processor(folder))


def expect(config: Config, name: str, expected: Any, default: Any) -> None:
    """As ``Config.require``, where a configuration without the name means ``default``."""
    value = config.get(name)
    value = default if value is None else value
    if value != expected:
        raise config.wrong(name, f"{expected!r}, as the engine knows no other", value)


def activation_key(config: Config) -> str:
    """The key that names ``hidden_act``; empty for the one that libmtmd takes without."""
    name = config.text("hidden_act")
    if name not in _ACTIVATIONS:
        raise config.wrong("hidden_act", f"one of {', '.join(_ACTIVATIONS)}", name)
    return _ACTIVATIONS[name]


def image_processor(folder: ModelFolder) -> Config:
    """How an image becomes numbers. Raises ``BadRequest`` when no file says so."""
    if _IMAGE_PROCESSOR not in folder and _PROCESSOR in folder:
        return Config(folder.json(_PROCESSOR, dict), _PROCESSOR).section("image_processor")
    return Config(folder.json(_IMAGE_PROCESSOR, dict), _IMAGE_PROCESSOR)


def _normalisation(processor: Config) -> dict[str, Value]:
    """What is subtracted from a colour between 0 and 1, and what the rest is divided by."""
    factor = processor.number("rescale_factor", default=_RESCALED)
    if not processor.flag("do_rescale", default=True) or abs(factor - _RESCALED) > _SAME:
        raise processor.wrong("rescale_factor", "1/255, as the engine has it", factor)
    if not processor.flag("do_normalize", default=True):
        return {"clip.vision.image_mean": [0.0] * 3, "clip.vision.image_std": [1.0] * 3}
    mean, deviation = (_colours(processor, name) for name in ("image_mean", "image_std"))
    if min(deviation) <= 0:
        raise processor.wrong("image_std", "numbers above 0", deviation)
    return {"clip.vision.image_mean": mean, "clip.vision.image_std": deviation}


def _colours(processor: Config, name: str) -> list[float]:
    values = processor.numbers(name)
    if len(values) != 3:
        raise processor.wrong(name, "3 numbers, for red, green and blue", values)
    return values


def patches(encoder: Encoder, source: str) -> Wanted:
    """How a patch becomes a vector. It stays F32: not every backend convolves with BF16."""
    shape = (encoder.width, 3, encoder.patch, encoder.patch)
    return Wanted("v.patch_embd.weight", (f"{source}.weight",), shape, exact=True)


def positions(encoder: Encoder, source: str, more: int = 0) -> Wanted:
    """The vector of each place in an image, and of ``more`` beside them."""
    shape = (encoder.side**2 + more, encoder.width)
    return Wanted("v.position_embd.weight", (f"{source}.weight",), shape, exact=True)


def norm(target: str, source: str, width: int) -> Iterator[Wanted]:
    """A norm with a bias."""
    for part in ("weight", "bias"):
        yield Wanted(f"{target}.{part}", (f"{source}.{part}",), (width,))


def scale(target: str, source: str, width: int) -> Wanted:
    """A norm without a bias."""
    return Wanted(f"{target}.weight", (f"{source}.weight",), (width,))


def siglip_tower(encoder: Encoder, source: str) -> Iterator[Wanted]:
    """SigLIP without the norm at its end."""
    embeddings = f"{source}.embeddings"
    yield patches(encoder, f"{embeddings}.patch_embedding")
    bias = (f"{embeddings}.patch_embedding.bias",)
    yield Wanted("v.patch_embd.bias", bias, (encoder.width,))
    yield positions(encoder, f"{embeddings}.position_embedding")
    yield from clip_layers(encoder, f"{source}.encoder.layers")


def clip_layers(encoder: Encoder, source: str) -> Iterator[Wanted]:
    """The layers of CLIP and SigLIP; ``source`` is before their numbers."""
    for index in range(encoder.layers):
        own, theirs = f"v.blk.{index}", f"{source}.{index}"
        yield from norm(f"{own}.ln1", f"{theirs}.layer_norm1", encoder.width)
        yield from norm(f"{own}.ln2", f"{theirs}.layer_norm2", encoder.width)
        for part, name in (("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("out", "out_proj")):
            target = f"{own}.attn_{part}"
            matrix = f"{theirs}.self_attn.{name}"
            yield from linear(target, matrix, encoder.width, encoder.width, bias=True)
        wide = encoder.feed_forward
        yield from linear(f"{own}.ffn_up", f"{theirs}.mlp.fc1", wide, encoder.width, bias=True)
        yield from linear(f"{own}.ffn_down", f"{theirs}.mlp.fc2", encoder.width, wide, bias=True)
