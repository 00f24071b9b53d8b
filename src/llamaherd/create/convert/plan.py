"""From what an architecture wants to what is written, every tensor checked before any is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Final

import numpy as np

from llamaherd.create.convert.checkpoint import ELEMENT_SIZES, Checkpoint, StoredTensor
from llamaherd.create.convert.config import Config
from llamaherd.create.convert.folder import ModelFolder
from llamaherd.create.convert.numbers import Rows, Stride, converted
from llamaherd.create.convert.writer import Bytes, ElementType, Tensor, Value
from llamaherd.errors import BadRequest

#: Left behind by old versions of transformers: what can be reckoned from the configuration.
_DERIVED: Final = re.compile(r"\.(rotary_emb\.inv_freq|attn\.bias|masked_bias|position_ids)$")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A tensor that llama.cpp calls ``name`` and Hugging Face ``sources``.

    Several sources are stacked along a new first dimension of ``shape``. ``otherwise`` takes the
    place of a source that isn't there. ``heads`` says in how many heads the rotary halves must be
    interleaved, and ``plus`` is added to each element. ``skip_rows`` of the source are left out
    before those that are wanted, and ``spare_rows`` after them. A source with ``frames``, as its
    third dimension, gives but one ``frame``. ``exact`` keeps F32 where matrices become F16.
    """

    name: str
    sources: tuple[str, ...]
    shape: tuple[int, ...]
    otherwise: str = ""
    optional: bool = False
    heads: int = 0
    plus: float = 0.0
    skip_rows: int = 0
    spare_rows: int = 0
    frames: int = 0
    frame: int = 0
    exact: bool = False

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """What each source must have."""
        rows, *rest = self.shape[1:] if len(self.sources) > 1 else self.shape
        if self.frames:
            rest.insert(1, self.frames)
        return (self.skip_rows + rows + self.spare_rows, *rest)


@dataclass(frozen=True, slots=True)
class Computed:
    """A one-dimensional F32 tensor that follows from the configuration."""

    name: str
    length: int
    values: Callable[[], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Projector:
    """How the part that makes images a model's input becomes a GGUF of its own.

    Both functions are given ``config.json`` and the folder that it is in.
    """

    metadata: Callable[[Config, ModelFolder], dict[str, Value]]
    tensors: Callable[[Config, ModelFolder], Iterator[Wanted]]


@dataclass(frozen=True, slots=True)
class Architecture:
    """How models of one kind become GGUF; ``name`` is llama.cpp's.

    ``prefixes`` are what may stand before every name in the checkpoint, ``respell`` gives other
    spellings of a name, and tensors that match ``ignored`` have no part in the model. ``text``
    finds the language model's configuration in that of a model that also sees, which has a
    ``projector``; ``metadata`` and ``tensors`` are given what it finds.
    """

    name: str
    metadata: Callable[[Config], dict[str, Value]]
    tensors: Callable[[Config], Iterator[Wanted | Computed]]
    prefixes: tuple[str, ...] = ("",)
    respell: Callable[[str], Iterable[str]] = field(default=lambda name: (name,))
    ignored: re.Pattern[str] = re.compile(r"(?!)")
    text: Callable[[Config], Config] = field(default=lambda config: config)
    projector: Projector | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The tensors of the language model, and those of the projector if there is one."""

    model: list[Tensor]
    projector: list[Tensor]


def plan(architecture: Architecture, config: Config, folder: ModelFolder) -> Plan:
    """Raises ``BadRequest`` for a tensor that is missing, unknown, or of a wrong shape or type."""
    finder = _Finder(architecture, Checkpoint.open(folder))
    model = _tensors(architecture.tensors(architecture.text(config)), finder)
    projector = architecture.projector
    seeing = _tensors(projector.tensors(config, folder), finder) if projector else []
    finder.check_all_used()
    return Plan(model, seeing)


def _tensors(all_wanted: Iterable[Wanted | Computed], finder: _Finder) -> list[Tensor]:
    tensors = []
    for wanted in all_wanted:
        if isinstance(wanted, Computed):
            tensors.append(_computed(wanted))
        elif (sources := finder.find(wanted)) is not None:
            tensors.append(_planned(wanted, sources))
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
    for source in sources:
        _check(source, wanted.stored_shape)
    target = _target(wanted, sources)
    count = wanted.stored_shape[0] - wanted.skip_rows - wanted.spare_rows

    def pieces() -> Iterator[Bytes]:
        for source in sources:
            yield from converted(
                source,
                target,
                head_rows=count // wanted.heads if wanted.heads else 0,
                plus=wanted.plus,
                rows=Rows(wanted.skip_rows, count),
                stride=_stride(wanted),
            )

    return Tensor(wanted.name, wanted.shape, target, pieces)


def _stride(wanted: Wanted) -> Stride | None:
    """Where in the source the wanted frame is."""
    if not wanted.frames:
        return None
    frame = prod(wanted.shape[2:])
    return Stride(wanted.frames * frame, wanted.frame * frame, frame)


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
