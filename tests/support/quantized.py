"""Small models to quantise, and the types that llama.cpp's own tool gave to their tensors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from llamaherd.create.quantize.types import NEED_IMPORTANCE_MATRIX, TARGETS
from llamaherd.gguf import GGUF
from tests.support.models import write_model

#: By model and target, as the tool's file has them; None where the tool refuses. Written by
#: ``python -m tests.parity.quantized``.
RECORDED: Final = Path(__file__).parents[1] / "data" / "quantized-types.json"

#: Quantised a million weights a second.
_SLOW: Final = frozenset({"IQ3_S", "IQ3_M", "IQ4_XS"})

_WIDE: Final[dict[str, Any]] = {"n_embd": 256, "n_ff": 256, "n_head": 8, "n_head_kv": 2}

#: Deep enough for every mixture of types; too narrow for blocks of 256; of 32 as well.
MODELS: Final[dict[str, dict[str, Any]]] = {
    "deep": {**_WIDE, "n_layer": 8, "ftype": "f16"},
    "shallow": {**_WIDE, "n_layer": 2, "ftype": "f16"},
    "narrow": {"n_embd": 96, "n_ff": 192, "ftype": "f32"},
    "odd": {"n_embd": 80, "n_ff": 208, "ftype": "bf16"},
}


def write(name: str, path: Path) -> Path:
    return write_model(path, **MODELS[name])


def targets(name: str) -> Iterable[str]:
    """The types to quantise a model to; the slow ones are for the shallow one alone."""
    wanted = (target for target in TARGETS if target not in NEED_IMPORTANCE_MATRIX)
    return (target for target in wanted if (name == "shallow") == (target in _SLOW))


def tensor_types(path: Path) -> str:
    """The types of all tensors in the file's order, with a space between."""
    with GGUF.open(path) as gguf:
        return " ".join(tensor.type for tensor in gguf.tensors)
