"""The types of weights that models can be quantised to, and those that models have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

from llamaherd.errors import BadRequest
from llamaherd.gguf import GGUF, TENSOR_TYPES, file_type_name
from llamaherd.gguf.describe import FILE_TYPES

#: What can be quantised, by the names of both tensors' and files' types.
UNQUANTISED: Final = ("F32", "F16", "BF16")

#: Files of which llama.cpp quantises some tensors so coarsely that it wants to know from an
#: importance matrix, measured on sample texts, which weights matter: ``tensor_requires_imatrix`` of
#: llama-quant.cpp with the mixtures that ``llama_tensor_get_type_impl`` makes of these types.
NEED_IMPORTANCE_MATRIX: Final = frozenset(
    {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "Q2_K_S"}
)

#: ``llama_ftype`` by name, all that llama.cpp can write; it has no way to make NVFP4.
TARGETS: Final[Mapping[str, int]] = {"F32": 0} | {
    name: number for number, name in FILE_TYPES.items() if name != "NVFP4"
}

#: Other names that llama.cpp's tool knows.
_ALIASES: Final = {
    "Q3_K": "Q3_K_M",
    "Q4_K": "Q4_K_M",
    "Q5_K": "Q5_K_M",
    "MXFP4_MOE": "MXFP4",
}

_PLAIN: Final = frozenset(type_.name for type_ in TENSOR_TYPES.values() if type_.block == 1)


class Target(NamedTuple):
    """A type of weights as ``general.file_type`` numbers it."""

    name: str
    number: int


def parse_target(text: str) -> Target:
    """The type that a user names, in any case; raises ``BadRequest``."""
    name = text.upper()
    name = _ALIASES.get(name, name)
    if name in NEED_IMPORTANCE_MATRIX:
        raise BadRequest(
            f"unsupported quantization type {name} - it needs an importance matrix, and none can"
            " be given"
        )
    if name not in TARGETS:
        supported = ", ".join(name for name in TARGETS if name not in NEED_IMPORTANCE_MATRIX)
        raise BadRequest(f"unsupported quantization type {name} - supported types are {supported}")
    return Target(name, TARGETS[name])


def type_of(gguf: GGUF) -> str:
    """The type of a model's weights: one of ``UNQUANTISED`` only if nothing in it is quantised.

    The tensors decide, for a file may say nothing of its type, or what isn't so.
    """
    elements: Counter[str] = Counter()
    for tensor in gguf.tensors:
        elements[tensor.type] += tensor.element_count
    named = file_type_name(gguf.file_type)
    if quantised := [kind for kind in elements if kind not in _PLAIN]:
        return named if named in TARGETS and named not in UNQUANTISED else quantised[0]
    if named in UNQUANTISED and elements[named]:
        return named
    return max(UNQUANTISED, key=lambda kind: elements[kind])
