"""Files as Ollama's converters write them, of tiny models in llama.cpp's form.

After ``WriteGGUF`` of Ollama's fs/ggml/gguf.go: keys in order of their names, tensors by their
blocks, those of the encoder among those of the language model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import numpy.typing as npt

from tests.support.models import write_out
from tests.support.ollama_checkpoints import Encoder, kind_of


@dataclass(frozen=True)
class Raw:
    """A tensor as a file has it: the bytes of its rows, and the type of its numbers."""

    data: npt.NDArray[Any]
    kind: gguf.GGMLQuantizationType


@dataclass(repr=False)
class Contents:
    """Keys as (type, value, type of the items) and tensors of a file."""

    keys: dict[str, tuple[gguf.GGUFValueType, Any, gguf.GGUFValueType | None]]
    tensors: dict[str, Raw]

    def set(self, **values: Any) -> None:
        """With ``__`` for a dot."""
        for name, value in values.items():
            self.keys[name.replace("__", ".")] = _typed(value)

    def drop(self, *keys: str) -> None:
        for key in keys:
            del self.keys[key]

    def rename_keys(self, old: str, new: str) -> None:
        self.keys = {
            new + key.removeprefix(old) if key.startswith(old) else key: value
            for key, value in self.keys.items()
        }

    def rename(self, change: Callable[[str], str]) -> None:
        self.tensors = {change(name): tensor for name, tensor in self.tensors.items()}


def read(path: Path) -> Contents:
    reader = gguf.GGUFReader(path)
    keys = {}
    for name, stored in reader.fields.items():
        if name.startswith("GGUF."):
            continue
        items = stored.types[-1] if len(stored.types) > 1 else None
        keys[name] = (stored.types[0], stored.contents(), items)
    return Contents(
        keys, {tensor.name: Raw(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    )


def write(
    path: Path, architecture: str, contents: Contents, encoder: Encoder | None = None
) -> Path:
    """As Ollama would; ``contents`` has the language model's keys and tensors by Ollama's names."""
    keys = dict(contents.keys)
    tensors = dict(contents.tensors)
    if encoder is not None:
        keys |= {
            f"{architecture}.{name}": _typed(value) for name, value in encoder.ollama_keys.items()
        }
        tensors |= {name: _raw(name, data) for name, data in encoder.ollama.items()}
    writer = gguf.GGUFWriter(path, architecture)
    for name in sorted(keys):
        if name != "general.architecture":
            kind, value, items = keys[name]
            writer.add_key_value(name, value, kind, items)
    for name in sorted(tensors, key=_order):
        writer.add_tensor(name, tensors[name].data, raw_dtype=tensors[name].kind)
    return write_out(writer, path)


def write_projector(path: Path, encoder: Encoder, extra: Mapping[str, Raw] = {}) -> Path:
    """As llama.cpp's converter would, with weights as 16-bit floats (``--outtype f16``)."""
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    for name, value in encoder.llama_cpp_keys.items():
        kind, content, items = _typed(value)
        writer.add_key_value(name, content, kind, items)
    tensors = {name: _projector_raw(name, data) for name, data in encoder.llama_cpp.items()}
    for name, tensor in (tensors | dict(extra)).items():
        writer.add_tensor(name, tensor.data, raw_dtype=tensor.kind)
    return write_out(writer, path)


def _projector_raw(name: str, data: npt.NDArray[np.float32]) -> Raw:
    """Positions are 32-bit floats always, and kernels of convolutions for Metal's sake."""
    if name == "v.position_embd.weight" or data.ndim == _KERNEL_DIMENSIONS:
        return Raw(data, gguf.GGMLQuantizationType.F32)
    return _raw(name, data)


def _raw(name: str, data: npt.NDArray[np.float32]) -> Raw:
    kind = kind_of(name, data.shape)
    return Raw(gguf.quants.quantize(np.ascontiguousarray(data), kind), kind)


_KERNEL_DIMENSIONS: Final = 4


def _order(name: str) -> tuple[int, str]:
    match = re.search(r"blk\.(\d+)\.", name)
    return (int(match[1]) if match else -1), name


_TYPES: Final = {
    bool: gguf.GGUFValueType.BOOL,
    int: gguf.GGUFValueType.UINT32,
    float: gguf.GGUFValueType.FLOAT32,
    str: gguf.GGUFValueType.STRING,
}
_ITEM_TYPES: Final = _TYPES | {int: gguf.GGUFValueType.INT32}


def _typed(value: Any) -> tuple[gguf.GGUFValueType, Any, gguf.GGUFValueType | None]:
    if isinstance(value, list):
        return gguf.GGUFValueType.ARRAY, value, _ITEM_TYPES[type(value[0])]
    return _TYPES[type(value)], value, None
