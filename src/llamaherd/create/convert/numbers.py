"""The numbers of a tensor on their way from one type and order to another, a piece at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llamaherd.create.convert.checkpoint import ELEMENT_SIZES, StoredTensor
from llamaherd.create.convert.writer import ElementType
from llamaherd.errors import BadRequest
from llamaherd.store.files import store_errors

#: Elements in a piece, unless the rows that change places together are more.
PIECE: Final = 1 << 21

_Elements = npt.NDArray[Any]
_STORED_AS: Final = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


@dataclass(frozen=True, slots=True)
class Rows:
    """``count`` rows, from ``first`` on."""

    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Stride:
    """Of every ``period`` elements, ``length`` from ``start`` on."""

    period: int
    start: int
    length: int


def converted(
    source: StoredTensor,
    target: ElementType,
    *,
    head_rows: int = 0,
    plus: float = 0.0,
    times: float = 1.0,
    rows: Rows | None = None,
    stride: Stride | None = None,
    transposed: bool = False,
) -> Iterator[memoryview]:
    """The bytes of ``source`` as ``target``: all of it, or of its ``rows``, or what ``stride``
    leaves.

    ``head_rows`` says how many rows make a head whose rotary halves must be interleaved; every
    element is multiplied by ``times``, and ``plus`` is added to it. A matrix can come
    ``transposed``, whole. Each piece is valid until the next is asked for. Raises ``BadRequest``
    for numbers that F16 can't hold, and when the file has changed.
    """
    row = source.shape[0] if transposed else _row_length(source)
    group = head_rows * row if head_rows else row if transposed else 1
    if stride is not None:
        group = stride.period
    size = max(PIECE // group, 1) * group
    read = _read_transposed(source, size) if transposed else _read(source, rows, size)
    for elements in read:
        if head_rows:
            elements = _interleaved(elements, head_rows, group)
        if stride is not None:
            elements = _strided(elements, stride)
        yield _as_type(elements, source, target, times, plus).data.cast("B")


def _row_length(source: StoredTensor) -> int:
    return source.element_count // source.shape[0]


def _read(source: StoredTensor, rows: Rows | None, size: int) -> Iterator[_Elements]:
    """``size`` elements at a time, in one array that is used again and again."""
    kind = _STORED_AS[source.dtype]
    rows = Rows(0, source.shape[0]) if rows is None else rows
    row = _row_length(source)
    count = rows.count * row
    buffer = np.empty(min(size, count), kind)
    with store_errors("read", source.path), source.path.open("rb", buffering=0) as file:
        file.seek(source.offset + rows.first * row * ELEMENT_SIZES[source.dtype])
        for start in range(0, count, size):
            elements = buffer[: min(size, count - start)]
            _fill(file.fileno(), elements.data.cast("B"), source)
            yield elements


def _read_transposed(source: StoredTensor, size: int) -> Iterator[_Elements]:
    """``size`` elements at a time, which are whole columns of the stored matrix."""
    kind = np.dtype(_STORED_AS[source.dtype])
    rows, columns = source.shape
    width = min(size // rows, columns)
    buffer = np.empty((rows, width), kind)
    with store_errors("read", source.path), source.path.open("rb", buffering=0) as file:
        for start in range(0, columns, width):
            block = buffer[:, : min(width, columns - start)]
            for index, row in enumerate(block):
                file.seek(source.offset + (index * columns + start) * kind.itemsize)
                _fill(file.fileno(), row.data.cast("B"), source)
            yield np.ascontiguousarray(block.T).reshape(-1)


def _fill(descriptor: int, target: memoryview, source: StoredTensor) -> None:
    done = 0
    while done < len(target):
        got = os.readv(descriptor, [target[done:]])
        if not got:
            raise BadRequest(f"{source.file}: the file ends within tensor {source.name}")
        done += got


def _interleaved(elements: _Elements, head_rows: int, group: int) -> _Elements:
    """Transformers rotates row ``i`` of a head with row ``i + half``, llama.cpp with the next."""
    halves = elements.reshape(-1, 2, head_rows // 2, group // head_rows)
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(-1)


def _strided(elements: _Elements, stride: Stride) -> _Elements:
    kept = elements.reshape(-1, stride.period)[:, stride.start : stride.start + stride.length]
    return np.ascontiguousarray(kept).reshape(-1)


def _as_type(
    elements: _Elements, source: StoredTensor, target: ElementType, times: float, plus: float
) -> _Elements:
    if not plus and times == 1 and source.dtype == target.name:
        return elements
    numbers = _as_floats(elements)
    if times != 1:
        numbers = numbers * np.float32(times)
    if plus:
        numbers = numbers + np.float32(plus)
    if target is ElementType.F32:
        return numbers
    try:
        with np.errstate(over="raise"):
            return numbers.astype(np.float16)
    except FloatingPointError:
        raise BadRequest(
            f"{source.file}: tensor {source.name} has numbers beyond 65504, the largest of F16"
        ) from None


def _as_floats(elements: _Elements) -> npt.NDArray[np.float32]:
    """BF16 is the upper half of an F32."""
    if elements.dtype == np.uint16:
        return (elements.astype(np.uint32) << 16).view(np.float32)
    return elements.astype(np.float32, copy=False)
