"""Metadata values: their types, their extent in the file, and reading them."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct
from typing import Final

from llamaherd.gguf.source import BLOCK, Source


class ValueType(IntEnum):
    """``gguf_type`` of ggml's gguf.h."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


_LAYOUTS: Final = {
    ValueType.UINT8: Struct("<B"),
    ValueType.INT8: Struct("<b"),
    ValueType.UINT16: Struct("<H"),
    ValueType.INT16: Struct("<h"),
    ValueType.UINT32: Struct("<I"),
    ValueType.INT32: Struct("<i"),
    ValueType.FLOAT32: Struct("<f"),
    ValueType.BOOL: Struct("<?"),
    ValueType.UINT64: Struct("<Q"),
    ValueType.INT64: Struct("<q"),
    ValueType.FLOAT64: Struct("<d"),
}
VALUE_TYPE: Final = Struct("<I")
_ARRAY_HEADER: Final = Struct("<IQ")

#: The least bytes that one item takes in the file.
_LEAST_SIZE: Final = {type_: layout.size for type_, layout in _LAYOUTS.items()} | {
    ValueType.STRING: 8,
    ValueType.ARRAY: _ARRAY_HEADER.size,
}

#: How deep arrays may nest; no known model nests them at all.
MAX_DEPTH: Final = 8

#: How many items the arrays of one file may hold together. The largest known vocabularies with
#: scores, types and merges come to two million; this many are walked over in under a second.
MAX_ITEMS: Final = 1 << 23

#: An inner array takes as long to walk over as this many strings.
_ARRAY_COST: Final = 64


class Array:
    """An array that stays in the file: its items are read when they are asked for.

    An item of fixed size is found at once; to find a string or an inner array, those before it
    are walked over. Usable while its GGUF is open.
    """

    def __init__(self, source: Source, offset: int, what: str) -> None:
        code, count = source.unpack(_ARRAY_HEADER, offset, what)
        self.item_type: Final = value_type(source, code, offset, what)
        self._source = source
        self._count: int = count
        self._first = offset + _ARRAY_HEADER.size
        self._what = what
        source.require(self._first, count * _LEAST_SIZE[self.item_type], what)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Value:
        offset = self.offset_of(range(self._count)[index], Walker(self._source))
        return read_value(self._source, self.item_type, offset, self._what)

    def __iter__(self) -> Iterator[Value]:
        if self.item_type is ValueType.STRING:
            return self._source.strings(self._first, self._count, self._what)
        if self.item_type is ValueType.ARRAY:
            return self._arrays()
        return self._numbers(_LAYOUTS[self.item_type])

    def __repr__(self) -> str:
        return f"<Array of {self._count} {self.item_type.name}>"

    def offset_of(self, index: int, walker: Walker, depth: int = 0) -> int:
        """Where in the file the item starts, or for ``len(self)`` where the array ends."""
        if self.item_type is ValueType.STRING:
            return self._source.skip_strings(self._first, index, self._what)
        if self.item_type is ValueType.ARRAY:
            offset = self._first
            for _ in range(index):
                offset = walker.end(ValueType.ARRAY, offset, self._what, depth + 1)
            return offset
        return self._first + index * _LAYOUTS[self.item_type].size

    def encoded(self, items: int) -> bytes:
        """An array of the first ``items`` as a file has it, its type before it."""
        if items > self._count:
            raise IndexError(f"{items} items of {self._count}")
        end = self.offset_of(items, Walker(self._source))
        content = self._source.read(self._first, end - self._first, self._what)
        return b"".join(
            (VALUE_TYPE.pack(ValueType.ARRAY), _ARRAY_HEADER.pack(self.item_type, items), content)
        )

    def _numbers(self, layout: Struct) -> Iterator[bool | int | float]:
        step = BLOCK // layout.size
        for start in range(0, self._count, step):
            length = min(step, self._count - start) * layout.size
            data = self._source.read(self._first + start * layout.size, length, self._what)
            for (number,) in layout.iter_unpack(data):
                yield number

    def _arrays(self) -> Iterator[Array]:
        walker = Walker(self._source)
        offset = self._first
        for _ in range(self._count):
            yield Array(self._source, offset, self._what)
            offset = walker.end(ValueType.ARRAY, offset, self._what)


Value = bool | int | float | str | Array


class Walker:
    """Finds where values end, over at most ``budget`` items of arrays altogether."""

    def __init__(self, source: Source, budget: int = MAX_ITEMS) -> None:
        self.budget = budget
        self._source = source

    def end(self, type_: ValueType, offset: int, what: str, depth: int = 0) -> int:
        """The end of the value at ``offset``. Raises InvalidGGUF if it is not sound."""
        if type_ is ValueType.STRING:
            start, length = self._source.string_span(offset, what)
            return start + length
        if type_ is not ValueType.ARRAY:
            self._source.require(offset, _LEAST_SIZE[type_], what)
            return offset + _LEAST_SIZE[type_]
        if depth == MAX_DEPTH:
            raise self._source.invalid(what, offset, f"arrays nested deeper than {MAX_DEPTH}")
        array = Array(self._source, offset, what)
        self.budget -= len(array) + (_ARRAY_COST if depth else 0)
        if self.budget < 0:
            raise self._source.invalid(
                what, offset, f"more than {MAX_ITEMS} items in the arrays of one file"
            )
        return array.offset_of(len(array), self, depth)


def read_value_type(source: Source, offset: int, what: str) -> tuple[ValueType, int]:
    """The type stored at ``offset``, and where the value begins."""
    (code,) = source.unpack(VALUE_TYPE, offset, what)
    return value_type(source, code, offset, what), offset + VALUE_TYPE.size


def value_type(source: Source, code: int, offset: int, what: str) -> ValueType:
    try:
        return ValueType(code)
    except ValueError:
        raise source.invalid(
            what, offset, f"unknown value type {code}, expected 0 to {max(ValueType)}"
        ) from None


def read_value(source: Source, type_: ValueType, offset: int, what: str) -> Value:
    """The value at ``offset``; in a string, bytes that are not UTF-8 become U+FFFD."""
    if type_ is ValueType.ARRAY:
        return Array(source, offset, what)
    if type_ is ValueType.STRING:
        start, length = source.string_span(offset, what)
        return source.read(start, length, what).decode("utf-8", "replace")
    value: bool | int | float = source.unpack(_LAYOUTS[type_], offset, what)[0]
    return value
