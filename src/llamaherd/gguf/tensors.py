"""Tensor descriptions, and the tensor types of the engine's ggml revision."""

from __future__ import annotations

from math import prod
from struct import Struct
from typing import Final, NamedTuple

import msgspec

from llamaherd.gguf.source import Source


class TensorType(NamedTuple):
    """How a type stores numbers: ``block`` elements of a row take ``size`` bytes together."""

    name: str
    block: int
    size: int


#: ``ggml_type`` of ggml.h, sizes from ``type_traits`` in ggml.c (llama-cpp-python 0.3.36).
TENSOR_TYPES: Final = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    9: TensorType("Q8_1", 32, 36),
    10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
    15: TensorType("Q8_K", 256, 292),
    16: TensorType("IQ2_XXS", 256, 66),
    17: TensorType("IQ2_XS", 256, 74),
    18: TensorType("IQ3_XXS", 256, 98),
    19: TensorType("IQ1_S", 256, 50),
    20: TensorType("IQ4_NL", 32, 18),
    21: TensorType("IQ3_S", 256, 110),
    22: TensorType("IQ2_S", 256, 82),
    23: TensorType("IQ4_XS", 256, 136),
    24: TensorType("I8", 1, 1),
    25: TensorType("I16", 1, 2),
    26: TensorType("I32", 1, 4),
    27: TensorType("I64", 1, 8),
    28: TensorType("F64", 1, 8),
    29: TensorType("IQ1_M", 256, 56),
    30: TensorType("BF16", 1, 2),
    34: TensorType("TQ1_0", 256, 54),
    35: TensorType("TQ2_0", 256, 66),
    39: TensorType("MXFP4", 32, 17),
    40: TensorType("NVFP4", 64, 36),
    41: TensorType("Q1_0", 128, 18),
    42: TensorType("Q2_0", 64, 18),
}

#: Types that ggml once had, and what took their place.
REMOVED_TYPES: Final = {
    4: "Q4_2 (or MXFP4 in Ollama's first files of gpt-oss: pull the model again)",
    5: "Q4_3",
    31: "Q4_0_4_4 (Q4_0 took its place)",
    32: "Q4_0_4_8 (Q4_0 took its place)",
    33: "Q4_0_8_8 (Q4_0 took its place)",
    36: "IQ4_NL_4_4 (IQ4_NL took its place)",
    37: "IQ4_NL_4_8 (IQ4_NL took its place)",
    38: "IQ4_NL_8_8 (IQ4_NL took its place)",
}

#: ``GGML_MAX_DIMS`` and ``GGML_MAX_NAME`` of ggml.h; a name ends with a zero byte there.
MAX_DIMENSIONS: Final = 4
MAX_NAME_BYTES: Final = 63

_DIMENSION_COUNT: Final = Struct("<I")
#: By number of dimensions: the dimensions, the type, the offset in the data section.
_LAYOUTS: Final = tuple(Struct(f"<{count}QIQ") for count in range(MAX_DIMENSIONS + 1))

#: The least bytes that describe a tensor: empty name, no dimensions.
LEAST_INFO_SIZE: Final = 8 + _DIMENSION_COUNT.size + _LAYOUTS[0].size

_INT64_MAX: Final = (1 << 63) - 1


class TensorInfo(msgspec.Struct, frozen=True):
    """``shape`` is in ggml's order: the elements of a row come first.

    ``offset`` counts from the start of the data section.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    nbytes: int

    @property
    def element_count(self) -> int:
        return prod(self.shape)


def read_tensor_infos(
    source: Source, offset: int, count: int, alignment: int
) -> tuple[tuple[TensorInfo, ...], int]:
    """``count`` descriptions from ``offset`` on, and where they end. Raises InvalidGGUF.

    Checks everything but whether the data section is long enough.
    """
    tensors: dict[str, TensorInfo] = {}
    for index in range(count):
        tensor, end = _read_tensor_info(source, offset, f"tensor {index} of {count}")
        if tensor.name in tensors:
            raise source.invalid(f"tensor {index}", offset, f"a second {tensor.name!r}")
        if tensor.offset % alignment:
            raise source.invalid(
                f"tensor {tensor.name!r}",
                offset,
                f"its data offset {tensor.offset} is not a multiple of the alignment {alignment}",
            )
        tensors[tensor.name] = tensor
        offset = end
    return tuple(tensors.values()), offset


def _read_tensor_info(source: Source, offset: int, what: str) -> tuple[TensorInfo, int]:
    name, position = _read_name(source, offset, what)
    what = f"tensor {name!r}"
    (dimensions,) = source.unpack(_DIMENSION_COUNT, position, what)
    if dimensions > MAX_DIMENSIONS:
        raise source.invalid(
            what, position, f"{dimensions} dimensions, expected at most {MAX_DIMENSIONS}"
        )
    position += _DIMENSION_COUNT.size
    layout = _LAYOUTS[dimensions]
    *shape, code, data_offset = source.unpack(layout, position, what)
    type_ = TENSOR_TYPES.get(code)
    if type_ is None:
        raise source.invalid(what, position, _unusable_type(code))
    # As in ggml, zeros don't make a shape acceptable whose other dimensions overflow.
    if prod(max(size, 1) for size in shape) > _INT64_MAX // type_.size:
        raise source.invalid(what, position, f"shape {shape} is larger than any memory")
    if (shape[0] if shape else 1) % type_.block:
        raise source.invalid(
            what, position, f"rows of shape {shape} are not whole {type_.name} blocks ({type_})"
        )
    nbytes = prod(shape) // type_.block * type_.size
    return TensorInfo(name, tuple(shape), type_.name, data_offset, nbytes), position + layout.size


def _read_name(source: Source, offset: int, what: str) -> tuple[str, int]:
    start, length = source.string_span(offset, what)
    if length > MAX_NAME_BYTES:
        raise source.invalid(
            what, offset, f"a name of {length} bytes, expected at most {MAX_NAME_BYTES}"
        )
    try:
        return source.read(start, length, what).decode(), start + length
    except UnicodeDecodeError:
        raise source.invalid(what, offset, "its name is not UTF-8") from None


def _unusable_type(code: int) -> str:
    removed = REMOVED_TYPES.get(code)
    if removed:
        return f"tensor type {code}, {removed}, no longer exists"
    return f"unknown tensor type {code}, expected 0 to {max(TENSOR_TYPES)}"
