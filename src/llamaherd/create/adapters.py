"""Adapters among the files of a request, and whether one fits the model it is to change.

``adapters`` maps names to files. Each GGUF file is an adapter by itself; safetensors with their
configuration make one adapter for each folder that they stand in, so that several have room.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Self

from llamaherd.compat import text_of
from llamaherd.errors import BadRequest
from llamaherd.gguf import GGUF, TensorInfo
from llamaherd.store.files import store_errors

#: How many adapters one model may have; each is computed beside the model for every token.
MAX_ADAPTERS: Final = 32

EMBEDDING: Final = "token_embd.weight"
OUTPUT: Final = "output.weight"
#: llama.cpp has no such adapter: it ends the process.
TIED: Final = (
    "the base model has one matrix for its token embeddings and its output, "
    "of which the engine can't change one alone"
)

#: Integers have no product with a matrix, and these no rows of their own.
_UNUSABLE_TYPES: Final = ("I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K")

_SUFFIXES: Final = (".lora_a", ".lora_b")
#: Norms beside the pairs, which some tools extract. llama.cpp passes over them.
_PASSED_OVER: Final = "_norm.weight"


def grouped(files: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The files of each adapter by their names in its folder, and what the user calls it.

    In the order of the names; raises ``BadRequest`` for more than ``MAX_ADAPTERS``.
    """
    groups: dict[str, dict[str, str]] = {}
    for file in sorted(files):
        path = PurePosixPath(file)
        alone = path.suffix not in (".safetensors", ".json")
        groups.setdefault(file if alone else f"{path.parent}/", {})[path.name] = files[file]
    if len(groups) > MAX_ADAPTERS:
        raise BadRequest(f"adapters: {len(groups)} adapters, expected at most {MAX_ADAPTERS}")
    for name, group in groups.items():
        shown = name.removesuffix("/")
        yield max(group, key=_is_safetensors) if shown == "." else shown, group


def _is_safetensors(file: str) -> bool:
    return file.endswith(".safetensors")


@dataclass(frozen=True, slots=True)
class Base:
    """A model as the engine has it, which may call what a file has by other names; ``shapes`` are
    those of its tensors in ggml's order."""

    architecture: str
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, gguf: GGUF) -> Self:
        """Raises ``InvalidGGUF``."""
        translated = text_of(gguf)
        if translated is None:
            return cls(gguf.architecture, {tensor.name: tensor.shape for tensor in gguf.tensors})
        shapes = {tensor.name: tensor.shape for tensor in translated.tensors}
        return cls(translated.architecture, shapes)


def check_adapter(name: str, adapter: Path, base: Path) -> None:
    """Whether the engine can apply the GGUF adapter to the GGUF model ``base``.

    llama.cpp would refuse some of this when the model is loaded, and ends the process on the rest.
    Raises ``BadRequest`` that names what doesn't fit or is unsound, and ``StoreError``.
    """
    with store_errors("open", adapter):
        ours = GGUF.open(adapter)
    with ours, store_errors("open", base), GGUF.open(base) as model:
        try:
            _check(ours, Base.of(model))
        except BadRequest as error:
            raise BadRequest(f"adapters: {name}: {error}") from error


def _check(adapter: GGUF, base: Base) -> None:
    kind = adapter.get("adapter.type", str, "")
    if kind != "lora":
        raise BadRequest(f"adapter.type: expected 'lora', not {kind!r}")
    if adapter.architecture != base.architecture:
        raise BadRequest(
            f"made for architecture {adapter.architecture}, the base model is {base.architecture}"
        )
    if not math.isfinite(alpha := adapter.get("adapter.lora.alpha", float, 0.0)):
        raise BadRequest(f"adapter.lora.alpha: expected a number, not {alpha}")
    if "adapter.alora.invocation_tokens" in adapter.metadata:
        raise BadRequest("adapter.alora.invocation_tokens: expected none, the engine has no aLoRA")
    pairs = _pairs(adapter)
    if not pairs:
        raise BadRequest("has no LoRA tensors")
    for name, (a, b) in pairs.items():
        _check_pair(name, a, b, base.shapes)


def _pairs(adapter: GGUF) -> dict[str, tuple[TensorInfo, TensorInfo]]:
    halves: dict[str, dict[str, TensorInfo]] = {}
    for tensor in adapter.tensors:
        suffix = next((each for each in _SUFFIXES if tensor.name.endswith(each)), None)
        if suffix is not None:
            halves.setdefault(tensor.name.removesuffix(suffix), {})[suffix] = tensor
        elif not tensor.name.endswith(_PASSED_OVER):
            raise BadRequest(
                f"tensor {tensor.name}: expected a name that ends in .lora_a or .lora_b"
            )
        if tensor.type in _UNUSABLE_TYPES:
            raise BadRequest(f"tensor {tensor.name}: type {tensor.type}, which no adapter has")
    for name, found in halves.items():
        for suffix in _SUFFIXES:
            if suffix not in found:
                raise BadRequest(f"tensor {name}{suffix} is missing")
    return {name: (found[".lora_a"], found[".lora_b"]) for name, found in halves.items()}


def _check_pair(
    name: str, a: TensorInfo, b: TensorInfo, matrices: Mapping[str, tuple[int, ...]]
) -> None:
    """Shapes are ggml's, the elements of a row first: A is (columns, rank), B (rank, rows)."""
    matrix = matrices.get(name)
    if matrix is None or len(matrix) < 2:
        raise BadRequest(f"tensor {a.name}: the base model has no matrix {name}")
    columns, rows, *stacked = matrix
    rank = math.prod(a.shape[:1] if name == EMBEDDING else a.shape[1:2])
    if name == EMBEDDING:
        if OUTPUT not in matrices:
            raise BadRequest(f"tensor {a.name}: {TIED}")
        expected: list[tuple[int, ...]] = [(rank, rows), (rank, columns)]
    else:
        expected = [(columns, rank, *stacked), (rank, rows, *stacked)]
    for tensor, shape in zip((a, b), expected, strict=True):
        if not rank or _trimmed(tensor.shape) != _trimmed(shape):
            raise BadRequest(
                f"tensor {tensor.name}: shape {list(tensor.shape)}, expected {list(shape)} for a "
                f"base matrix of shape {list(matrix)}"
            )


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without the dimensions of 1 at the end, which a file may have or not."""
    while shape[-1:] == (1,):
        shape = shape[:-1]
    return shape
