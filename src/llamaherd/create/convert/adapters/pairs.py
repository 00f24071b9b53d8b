"""The matrices A and B of each module that an adapter changes, by the names of PEFT or MLX."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from llamaherd.create.convert.checkpoint import ELEMENT_SIZES, Checkpoint, StoredTensor
from llamaherd.errors import BadRequest

#: PEFT has A as (rank, columns) and B as (rows, rank); of embeddings, columns are the vocabulary.
_PEFT: Final = re.compile(
    r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<half>[AB])(?:\.default)?\.weight"
    r"|(?:base_model\.model\.)?(?P<words>.+)\.lora_embedding_(?P<side>[AB])(?:\.default)?"
)
#: MLX has the same transposed.
_MLX: Final = re.compile(r"(?P<module>.+)\.lora_(?P<half>[ab])")

#: What PEFT stores along of the base though it never changed.
_OF_BASE: Final = re.compile(r"\.base_layer\.weight$")

_REASONS: Final = (
    (re.compile(r"\.lora_magnitude_vector"), "DoRA"),
    (re.compile(r"\.modules_to_save\."), "a module of its own"),
    (re.compile(r"\.bias$"), "a bias"),
)

#: Wrappers for models that see, around the names that the language model has by itself.
_WRAPPERS: Final = (
    ("model.language_model.", "model."),
    ("model.text_model.", "model."),
    ("language_model.model.", "model."),
    ("language_model.lm_head", "lm_head"),
)


@dataclass(frozen=True, slots=True)
class Matrix:
    """A stored tensor, as it is or ``transposed``."""

    stored: StoredTensor
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.stored.shape
        return (columns, rows) if self.transposed else (rows, columns)

    def flipped(self) -> Matrix:
        return replace(self, transposed=not self.transposed)


@dataclass(frozen=True, slots=True)
class Pair:
    """``a`` is (rank, columns) and ``b`` (rows, rank); ``module`` is what the adapter calls it."""

    module: str
    a: Matrix
    b: Matrix

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    @property
    def name(self) -> str:
        """Of the module in the language model."""
        for wrapper, plain in _WRAPPERS:
            if self.module.startswith(wrapper):
                return plain + self.module.removeprefix(wrapper)
        return self.module


def read_pairs(checkpoint: Checkpoint) -> list[Pair]:
    """Raises ``BadRequest`` for what is no LoRA."""
    halves: dict[str, dict[str, Matrix]] = {}
    for name in checkpoint:
        if _OF_BASE.search(name):
            continue
        module, half, transposed = _split(checkpoint[name])
        other = halves.setdefault(module, {})
        if half in other:
            raise _wrong(checkpoint[name], f"a second {half} of {module}")
        other[half] = _matrix(checkpoint[name], transposed)
    if not halves:
        raise BadRequest("the safetensors files have no LoRA tensors")
    return [_paired(module, found) for module, found in halves.items()]


def _split(tensor: StoredTensor) -> tuple[str, str, bool]:
    """The module, "A" or "B", and whether the matrix is stored transposed."""
    if match := _PEFT.fullmatch(tensor.name):
        module, half = match["module"] or match["words"], match["half"] or match["side"]
        return module, half, False
    if match := _MLX.fullmatch(tensor.name):
        return match["module"], match["half"].upper(), True
    reason = next((why for pattern, why in _REASONS if pattern.search(tensor.name)), "no LoRA")
    raise _wrong(tensor, f"expected A and B of LoRA, the engine can't apply this, {reason}")


def _matrix(tensor: StoredTensor, transposed: bool) -> Matrix:
    if tensor.dtype not in ELEMENT_SIZES:
        raise _wrong(tensor, f"type {tensor.dtype}, expected {' or '.join(ELEMENT_SIZES)}")
    if len(tensor.shape) != 2 or 0 in tensor.shape:
        raise _wrong(tensor, f"shape {list(tensor.shape)}, expected a matrix")
    return Matrix(tensor, transposed)


def _paired(module: str, halves: Mapping[str, Matrix]) -> Pair:
    for half in "AB":
        if half not in halves:
            raise BadRequest(f"{module}: the safetensors files have no {half} of its LoRA")
    pair = Pair(module, halves["A"], halves["B"])
    if pair.rank != pair.b.shape[1]:
        raise _wrong(pair.b.stored, f"rank {pair.b.shape[1]}, but {pair.rank} in its A")
    return pair


def _wrong(tensor: StoredTensor, problem: str) -> BadRequest:
    return BadRequest(f"{tensor.file}: tensor {tensor.name}: {problem}")
