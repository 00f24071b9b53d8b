"""A model's description as Ollama's API gives it."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from struct import Struct
from typing import Final

from llamaherd.gguf.reader import GGUF
from llamaherd.gguf.values import Array, Value, ValueType

#: ``llama_ftype`` of llama.h. Ollama takes 0, all F32, for a file type that was never set.
FILE_TYPES: Final[Mapping[int, str]] = {
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4",
    39: "NVFP4",
    40: "Q1_0",
    41: "Q2_0",
}

#: Given elsewhere in the answer of /api/show, or too long for it.
_NOT_IN_MODEL_INFO: Final = ("general.name", "tokenizer.chat_template")

_FLOAT32: Final = Struct("<f")

JSONValue = bool | int | float | str | None | list["JSONValue"]


def file_type_name(file_type: int | None) -> str:
    """The ``quantization_level`` of the API."""
    return "unknown" if file_type is None else FILE_TYPES.get(file_type, "unknown")


def human_number(number: int) -> str:
    """A count of parameters as Ollama prints it: 260K, 22.57M, 7.2B."""
    for unit, size, places in (("B", 10**9, 1), ("M", 10**6, 2), ("K", 10**3, 0)):
        if number >= size:
            return f"{number / size:.{0 if number % size == 0 else places}f}{unit}"
    return str(number)


def model_info(gguf: GGUF, *, verbose: bool = False) -> dict[str, JSONValue]:
    """The ``model_info`` of /api/show, keys in order."""
    info = metadata_info(gguf, verbose=verbose)
    for key in _NOT_IN_MODEL_INFO:
        info.pop(key, None)
    return info


def metadata_info(gguf: GGUF, *, verbose: bool = False) -> dict[str, JSONValue]:
    """All metadata ready for JSON and ``general.parameter_count`` as counted, keys in order.

    Arrays are None unless they are empty or all is wanted (``verbose``).
    """
    metadata = gguf.metadata
    info = {key: _plain(metadata[key], metadata.type_of(key), verbose) for key in metadata}
    info["general.parameter_count"] = gguf.parameter_count
    return dict(sorted(info.items()))


def tensor_list(gguf: GGUF) -> list[dict[str, str | list[int]]]:
    """The ``tensors`` of /api/show."""
    return [
        {"name": tensor.name, "type": tensor.type, "shape": list(tensor.shape)}
        for tensor in gguf.tensors
    ]


def _plain(value: Value, type_: ValueType, verbose: bool) -> JSONValue:
    if isinstance(value, Array):
        if len(value) and not verbose:
            return None
        return [_plain(item, value.item_type, verbose) for item in value]
    if isinstance(value, float):
        return _plain_float(value, type_)
    return value


def _plain_float(value: float, type_: ValueType) -> float | int | None:
    """``value`` as Go writes it: the shortest decimal of its precision, whole numbers as such.

    JSON has no infinities and no NaN: None.
    """
    if not isfinite(value):
        return None
    if value.is_integer() and abs(value) < 1e21:
        return int(value)
    if type_ is ValueType.FLOAT32:
        return _shortest_float32(value)
    return value


def _shortest_float32(value: float) -> float:
    """The decimal with the fewest digits that is ``value`` in single precision.

    Six digits are told apart by every single, and nine are enough to tell every single apart.
    """
    for digits in range(6, 9):
        short = float(f"{value:.{digits}g}")
        if _FLOAT32.pack(short) == _FLOAT32.pack(value):
            return short
    return float(f"{value:.9g}")
