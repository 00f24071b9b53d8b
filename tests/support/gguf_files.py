"""GGUF files for tests: sound ones by the ``gguf`` package, wrong ones byte by byte."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf as reference
import numpy as np

from llamaherd.gguf import GGUF, ValueType, metadata_info, tensor_list

Typed = tuple[ValueType, Any]
#: Metadata as (type, value), arrays as (type of the items, items).
Pairs = Mapping[str, Typed | tuple[ValueType, ValueType, Sequence[Any]]]


def write_gguf(
    path: Path, pairs: Pairs, tensors: Mapping[str, tuple[str, tuple[int, ...]]]
) -> None:
    """A sound file, written by the ``gguf`` package. Shapes in ggml's order."""
    writer = reference.GGUFWriter(path, "llama")
    for key, (type_, *rest) in pairs.items():
        writer.add_key_value(
            key, rest[-1], reference.GGUFValueType(type_), *map(reference.GGUFValueType, rest[:-1])
        )
    for name, (type_name, shape) in tensors.items():
        kind = next(kind for kind in reference.GGMLQuantizationType if kind.name == type_name)
        block, size = reference.GGML_QUANT_SIZES[kind]
        nbytes = math.prod(shape) // block * size
        writer.add_tensor(name, np.zeros(nbytes, np.int8), raw_shape=shape[::-1], raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# A file built byte by byte, to be wrong in one place at a time.


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def pair(key: bytes, type_: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", type_) + value


def array(type_: int, count: int, items: bytes = b"") -> bytes:
    return struct.pack("<IQ", type_, count) + items


def tensor(
    name: bytes = b"t", shape: Iterable[int] = (32,), type_: int = 0, offset: int = 0
) -> bytes:
    shape = tuple(shape)
    return string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, type_, offset)


def file(
    pairs: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    *,
    data: int = 0,
    magic: bytes = b"GGUF",
    version: int = 3,
    key_count: int | None = None,
    tensor_count: int | None = None,
) -> bytes:
    counts = struct.pack(
        "<QQ",
        len(tensors) if tensor_count is None else tensor_count,
        len(pairs) if key_count is None else key_count,
    )
    head = magic + struct.pack("<I", version) + counts + b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(data)


def saved(directory: Path, content: bytes) -> Path:
    path = directory / "model.gguf"
    path.write_bytes(content)
    return path


def read_everything(path: Path) -> None:
    with GGUF.open(path) as gguf:
        metadata_info(gguf, verbose=True)
        tensor_list(gguf)
        gguf.data_size  # noqa: B018
