"""From what an architecture wants to what is written, every tensor checked before any is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np

from llamaherd.create.convert.checkpoint import ELEMENT_SIZES, Checkpoint, StoredTensor
from llamaherd.create.convert.config import Config
from llamaherd.create.convert.numbers import converted
from llamaherd.create.convert.writer import Bytes, ElementType, Tensor, Value
from llamaherd.errors import BadRequest

#: Left behind by old versions of transformers: what can be reckoned from the configuration.
_DERIVED: Final = re.compile(r"\.(rotary_emb\.inv_freq|attn\.bias|masked_bias)$")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A tensor that llama.cpp calls ``name`` and Hugging Face ``sources``.

    Several sources are stacked along a new first dimension of ``shape``. ``otherwise`` takes the
    place of a source that isn't there. ``heads`` says in how many heads the rotary halves must be
    interleaved, ``plus`` is added to each element, ``skip_rows`` of the source are left out, and
    ``exact`` keeps F32 where matrices become F16.
    """

    name: str
    sources: tuple[str, ...]
    shape: tuple[int, ...]
    otherwise: str = ""
    optional: bool = False
    heads: int = 0
    plus: float = 0.0
    skip_rows: int = 0
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Computed:
    """A one-dimensional F32 tensor that follows from the configuration."""

    name: str
    length: int
    values: Callable[[], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Architecture:
    """How models of one kind become GGUF; ``name`` is llama.cpp's.

    ``prefixes`` are what may stand before every name in the checkpoint, ``respell`` gives other
    spellings of a name, and tensors that match ``ignored`` have no part in the model.
    """

    name: str
    metadata: Callable[[Config], dict[str, Value]]
    tensors: Callable[[Config], Iterator[Wanted | Computed]]
    prefixes: tuple[str, ...] = ("",)
    respell: Callable[[str], Iterable[str]] = field(default=lambda name: (name,))
    ignored: re.Pattern[str] = re.compile(r"(?!)")


def plan(architecture: Architecture, config: Config, checkpoint: Checkpoint) -> list[Tensor]:
    """Raises ``BadRequest`` for a tensor that is missing, unknown, or of a wrong shape or type."""
    finder = _Finder(architecture, checkpoint)
    tensors = []
    for wanted in architecture.tensors(config):
        if isinstance(wanted, Computed):
            tensors.append(_computed(wanted))
        elif (sources := finder.find(wanted)) is not None:
            tensors.append(_planned(wanted, sources))
    finder.check_all_used()
    return tensors


class _Finder:
    """Looks tensors up and remembers which were used."""

    def __init__(self, architecture: Architecture, checkpoint: Checkpoint) -> None:
        self._architecture = architecture
        self._checkpoint = checkpoint
        self._used: set[str] = set()

    def find(self, wanted: Wanted) -> list[StoredTensor] | None:
        """None for an optional tensor that isn't there."""
        found = [self._find_one(source, wanted) for source in wanted.sources]
        if wanted.optional and not any(found):
            return None
        for source, tensor in zip(wanted.sources, found, strict=True):
            if tensor is None:
                raise BadRequest(f"the safetensors files have no tensor {source}")
        return [tensor for tensor in found if tensor is not None]

    def _find_one(self, source: str, wanted: Wanted) -> StoredTensor | None:
        """Both it and what may take its place count as used."""
        found = [self._spelt(name) for name in (source, wanted.otherwise) if name]
        return next((tensor for tensor in found if tensor is not None), None)

    def _spelt(self, name: str) -> StoredTensor | None:
        for prefix in self._architecture.prefixes:
            for spelling in self._architecture.respell(prefix + name):
                if spelling in self._checkpoint:
                    self._used.add(spelling)
                    return self._checkpoint[spelling]
        return None

    def check_all_used(self) -> None:
        """What is left over belongs to a kind of model that we would get wrong."""
        for name in self._checkpoint:
            ignored = _DERIVED.search(name) or self._architecture.ignored.search(name)
            if name not in self._used and not ignored:
                file = self._checkpoint[name].file
                raise BadRequest(
                    f"{file}: tensor {name} has no place in architecture {self._architecture.name}"
                )


def _planned(wanted: Wanted, sources: Sequence[StoredTensor]) -> Tensor:
    shape = wanted.shape[1:] if len(sources) > 1 else wanted.shape
    for source in sources:
        _check(source, (shape[0] + wanted.skip_rows, *shape[1:]))
    target = _target(wanted, sources)
    rows = shape[0] // wanted.heads if wanted.heads else 0
    skip = wanted.skip_rows * (sources[0].element_count // sources[0].shape[0])

    def pieces() -> Iterator[Bytes]:
        for source in sources:
            yield from converted(source, target, head_rows=rows, plus=wanted.plus, skip=skip)

    return Tensor(wanted.name, wanted.shape, target, pieces)


def _check(source: StoredTensor, shape: tuple[int, ...]) -> None:
    where = f"{source.file}: tensor {source.name}"
    if source.shape != shape:
        raise BadRequest(f"{where}: shape {list(source.shape)}, expected {list(shape)}")
    if source.dtype not in ELEMENT_SIZES:
        raise BadRequest(f"{where}: type {source.dtype}, expected {' or '.join(ELEMENT_SIZES)}")


def _target(wanted: Wanted, sources: Sequence[StoredTensor]) -> ElementType:
    """Vectors and norms stay exact. BF16 stays too: not all of its range fits F16."""
    if wanted.exact or len(wanted.shape) == 1:
        return ElementType.F32
    if all(source.dtype == "BF16" for source in sources):
        return ElementType.BF16
    return ElementType.F16


def _computed(wanted: Computed) -> Tensor:
    def pieces() -> Iterator[Bytes]:
        yield np.asarray(wanted.values(), np.float32).tobytes()

    return Tensor(wanted.name, (wanted.length,), ElementType.F32, pieces)


def stacked(pattern: str, count: int) -> tuple[str, ...]:
    """The names that ``pattern`` has for 0 to ``count - 1``."""
    return tuple(map(partial(str.format, pattern), range(count)))
