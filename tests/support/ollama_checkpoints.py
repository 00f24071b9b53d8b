"""Checkpoints of vision encoders, and what converters of llama.cpp and Ollama do with all of them.

The names are transformers'; llama.cpp's are looked up in the ``gguf`` package.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import gguf
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Tensors = dict[str, Floats]

#: The width of embeddings of the language model, and within the encoder.
MODEL_WIDTH: Final = 64
WIDTH: Final = 32
HIDDEN: Final = 64
BLOCKS: Final = 3
HEADS: Final = 2


@dataclass(frozen=True)
class Encoder:
    """One encoder in both forms; keys of ``ollama`` lack the name of the architecture."""

    llama_cpp: Tensors
    llama_cpp_keys: Mapping[str, Any]
    ollama: Tensors
    ollama_keys: Mapping[str, Any]


@dataclass
class Checkpoint:
    """Tensors by the names of transformers, of numbers that 16-bit floats can hold."""

    random: np.random.Generator
    tensors: Tensors = field(default_factory=dict)

    def add(self, name: str, *shape: int) -> None:
        numbers = self.random.standard_normal(shape) / np.sqrt(shape[-1])
        self.tensors[name] = numbers.astype(np.float16).astype(np.float32)

    def linear(self, name: str, rows: int, columns: int, *, bias: bool = True) -> None:
        self.add(f"{name}.weight", rows, columns)
        if bias:
            self.add(f"{name}.bias", rows)

    def norm(self, name: str, width: int = WIDTH, *, bias: bool = True) -> None:
        self.add(f"{name}.weight", width)
        if bias:
            self.add(f"{name}.bias", width)


def replacer(*pairs: str) -> Callable[[str], str]:
    """Go's ``strings.NewReplacer``: where several old texts are found, the first listed counts."""
    names = dict(zip(pairs[::2], pairs[1::2], strict=True))
    pattern = re.compile("|".join(map(re.escape, pairs[::2])))
    return lambda text: pattern.sub(lambda match: names[match[0]], text)


def kind_of(name: str, shape: Sequence[int]) -> gguf.GGMLQuantizationType:
    """``Kind`` of Ollama's convert/reader.go, as far as it concerns these tensors."""
    if name.endswith(".bias") or name == "v.positional_embedding_vlm" or len(shape) == 1:
        return gguf.GGMLQuantizationType.F32
    return gguf.GGMLQuantizationType.F16


def renamed(tensors: Tensors, rename: Callable[[str], str]) -> Tensors:
    return {rename(name): data for name, data in tensors.items()}


def by_gguf(tensors: Tensors) -> Tensors:
    """Renamed as ``ModelBase.map_tensor_name`` does; what is named already stays."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, BLOCKS)

    def rename(name: str) -> str:
        found: str | None = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            assert name.startswith(("v.", "mm.")), name
            return name
        return found

    return renamed(tensors, rename)


SIZES: Final = {
    "block_count": BLOCKS,
    "embedding_length": WIDTH,
    "feed_forward_length": HIDDEN,
    "attention.head_count": HEADS,
}


def llama_cpp_keys(projector: str, activation: str, **values: Any) -> dict[str, Any]:
    """``values`` are keys below ``clip.vision``, with ``__`` for a dot."""
    numbers = SIZES | {"projection_dim": MODEL_WIDTH} | values
    keys = {f"clip.vision.{name.replace('__', '.')}": value for name, value in numbers.items()}
    return keys | {
        "clip.has_vision_encoder": True,
        "clip.projector_type": projector,
        f"clip.use_{activation}": True,
    }


def ollama_keys(*without: str, **values: Any) -> dict[str, Any]:
    """``values`` are keys below ``vision``, those of ``without`` aren't there."""
    numbers = SIZES | {name.replace("__", "."): value for name, value in values.items()}
    return {f"vision.{name}": value for name, value in numbers.items() if name not in without}


HALF: Final = [0.5, 0.5, 0.5]
CLIP: Final = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
