"""Opening a GGUF file: header, metadata, tensor descriptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from os import PathLike
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar, overload

from llamaherd.errors import InvalidGGUF
from llamaherd.gguf.source import Source
from llamaherd.gguf.tensors import LEAST_INFO_SIZE, TensorInfo, read_tensor_infos
from llamaherd.gguf.values import (
    MAX_ITEMS,
    VALUE_TYPE,
    Array,
    Value,
    ValueType,
    Walker,
    read_value,
    read_value_type,
)

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
DEFAULT_ALIGNMENT: Final = 32

#: Bounds on the work that a hostile header can cause. The largest known models have 100 keys,
#: 16 MB of metadata and 2,000 tensors.
MAX_KEYS: Final = 1 << 16
MAX_TENSORS: Final = 1 << 16
MAX_METADATA_BYTES: Final = 1 << 28

#: From the format's specification.
MAX_KEY_BYTES: Final = (1 << 16) - 1

_MAGIC_AND_VERSION: Final = Struct("<4sI")
_COUNTS: Final = Struct("<QQ")
#: The least bytes that a key and its value take: a key of one character, one byte of value.
_LEAST_ENTRY_SIZE: Final = 8 + 1 + 4 + 1

_REQUIRED: Final = object()

T = TypeVar("T")
D = TypeVar("D")


class _Entry(NamedTuple):
    """``start`` is where the key begins, ``offset`` where the value does."""

    type: ValueType
    start: int
    offset: int
    end: int


class Metadata(Mapping[str, Value]):
    """The keys of a file in its order, found and checked no further than was asked.

    Any access may raise InvalidGGUF, then and whenever it is repeated.
    """

    def __init__(self, source: Source, offset: int, count: int) -> None:
        self._source = source
        self._count = count
        self._entries: dict[str, _Entry] = {}
        self._next = offset
        self._items_left = MAX_ITEMS

    def __getitem__(self, key: str) -> Value:
        entry = self._entry(key)
        return read_value(self._source, entry.type, entry.offset, f"key {key!r}")

    def __contains__(self, key: object) -> bool:
        while key not in self._entries and len(self._entries) < self._count:
            self._find_next()
        return key in self._entries

    def __iter__(self) -> Iterator[str]:
        self._find_all()
        return iter(self._entries)

    def __len__(self) -> int:
        return self._count

    def type_of(self, key: str) -> ValueType:
        """How the file stores the value. Raises KeyError."""
        return self._entry(key).type

    def encoded(self, key: str) -> bytes:
        """The key, its type and its value as they stand in the file. Raises KeyError."""
        entry = self._entry(key)
        return self._source.read(entry.start, entry.end - entry.start, f"key {key!r}")

    def encoded_value(self, key: str, items: int | None = None) -> bytes:
        """The value as it stands in the file, its type before it; of an array, its first ``items``.

        Raises KeyError, and IndexError for more items than there are.
        """
        entry = self._entry(key)
        what = f"key {key!r}"
        if items is None:
            start = entry.offset - VALUE_TYPE.size
            return self._source.read(start, entry.end - start, what)
        return Array(self._source, entry.offset, what).encoded(items)

    @property
    def end(self) -> int:
        """Where in the file the metadata ends."""
        self._find_all()
        return self._next

    def _entry(self, key: str) -> _Entry:
        if key not in self:
            raise KeyError(key)
        return self._entries[key]

    def _find_all(self) -> None:
        while len(self._entries) < self._count:
            self._find_next()

    def _find_next(self) -> None:
        source, start = self._source, self._next
        key, offset = self._read_key()
        what = f"key {key!r}"
        type_, offset = read_value_type(source, offset, what)
        walker = Walker(source, self._items_left)
        end = walker.end(type_, offset, what)
        if end > MAX_METADATA_BYTES:
            raise source.invalid(what, offset, f"metadata beyond {MAX_METADATA_BYTES} bytes")
        self._entries[key] = _Entry(type_, start, offset, end)
        self._next = end
        self._items_left = walker.budget

    def _read_key(self) -> tuple[str, int]:
        source = self._source
        what = f"key {len(self._entries)} of {self._count}"
        start, length = source.string_span(self._next, what)
        if not 1 <= length <= MAX_KEY_BYTES:
            raise source.invalid(
                what, self._next, f"{length} bytes long, expected 1 to {MAX_KEY_BYTES}"
            )
        try:
            key = source.read(start, length, what).decode()
        except UnicodeDecodeError:
            raise source.invalid(what, start, "not UTF-8") from None
        if key in self._entries:
            raise source.invalid(what, start, f"a second {key!r}")
        return key, start + length


class GGUF:
    """A GGUF file, little endian, version 2 or 3.

    Opening reads the first bytes only; keys are found when asked for, and tables such as the
    vocabulary stay in the file. Whoever wants to know that the whole file is sound asks for
    ``tensors``. Not for use by several threads at a time.
    """

    def __init__(self, source: Source, version: int, tensor_count: int, metadata: Metadata) -> None:
        self.version: Final = version
        self.metadata: Final = metadata
        self._source = source
        self._tensor_count = tensor_count

    @classmethod
    def open(cls, path: str | PathLike[str]) -> Self:
        """Raises OSError if the file can't be opened, InvalidGGUF if it doesn't begin as a GGUF."""
        source = Source(Path(path))
        try:
            version, tensor_count, key_count = _read_header(source)
        except BaseException:
            source.close()
            raise
        first_key = _MAGIC_AND_VERSION.size + _COUNTS.size
        return cls(source, version, tensor_count, Metadata(source, first_key, key_count))

    @property
    def name(self) -> str:
        """Of the file."""
        return self._source.name

    def close(self) -> None:
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @overload
    def get(self, key: str) -> Value | None: ...
    @overload
    def get(self, key: str, kind: type[T]) -> T: ...
    @overload
    def get(self, key: str, kind: type[T], default: D) -> T | D: ...
    def get(self, key: str, kind: type[Any] | None = None, default: object = _REQUIRED) -> object:
        """The value of ``key`` as a ``kind``: bool, int, float (from int too), str or Array.

        Raises InvalidGGUF if it has another type, or is missing and there is no default. Without
        ``kind``, any value or None.
        """
        if key not in self.metadata:
            if kind is not None and default is _REQUIRED:
                raise InvalidGGUF(f"{self._source.name}: key {key!r} is missing")
            return None if default is _REQUIRED else default
        value = self.metadata[key]
        if kind is None:
            return value
        if type(value) is int and kind is float:
            return float(value)
        if type(value) is not kind:
            stored = self.metadata.type_of(key).name.lower()
            raise InvalidGGUF(
                f"{self._source.name}: key {key!r} is of type {stored}, expected {kind.__name__}"
            )
        return value

    @overload
    def arch_value(self, name: str) -> Value | None: ...
    @overload
    def arch_value(self, name: str, kind: type[T]) -> T: ...
    @overload
    def arch_value(self, name: str, kind: type[T], default: D) -> T | D: ...
    def arch_value(
        self, name: str, kind: type[Any] | None = None, default: object = _REQUIRED
    ) -> object:
        """As ``get``, for a key of the architecture: ``context_length`` and the like."""
        return self.get(f"{self.architecture}.{name}", kind, default)  # type: ignore[arg-type]

    @property
    def architecture(self) -> str:
        return self.get("general.architecture", str)

    @property
    def file_type(self) -> int | None:
        """``llama_ftype``: how most of the weights are quantised."""
        return self.get("general.file_type", int, None)

    @property
    def alignment(self) -> int:
        alignment = self.get("general.alignment", int, DEFAULT_ALIGNMENT)
        if alignment < 1 or alignment & (alignment - 1):
            raise InvalidGGUF(
                f"{self._source.name}: general.alignment is {alignment}, expected a power of two"
            )
        return alignment

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """In the file's order. Their data are known to be inside the file."""
        return self._layout[0]

    @property
    def data_offset(self) -> int:
        """Where in the file the tensors' data section begins."""
        return self._layout[1]

    @property
    def data_size(self) -> int:
        """Bytes from the beginning of the data section to the end of its last tensor."""
        return max((tensor.offset + tensor.nbytes for tensor in self.tensors), default=0)

    @property
    def parameter_count(self) -> int:
        return sum(tensor.element_count for tensor in self.tensors)

    @cached_property
    def _layout(self) -> tuple[tuple[TensorInfo, ...], int]:
        source, alignment = self._source, self.alignment
        start = self.metadata.end
        tensors, end = read_tensor_infos(source, start, self._tensor_count, alignment)
        data_offset = (end + alignment - 1) // alignment * alignment
        for tensor in tensors:
            needed = data_offset + tensor.offset + tensor.nbytes
            if needed > source.size:
                raise InvalidGGUF(
                    f"{source.name} is truncated: tensor {tensor.name!r} ends at byte {needed}, "
                    f"but the file has only {source.size} bytes"
                )
        return tensors, data_offset


def _read_header(source: Source) -> tuple[int, int, int]:
    """The version and how many tensors and keys follow."""
    what = "GGUF header"
    magic, version = source.unpack(_MAGIC_AND_VERSION, 0, what)
    if magic != MAGIC:
        raise InvalidGGUF(f"{source.name} is not a GGUF file: it begins with {magic!r}")
    if version & 0xFFFF == 0 and version:
        raise InvalidGGUF(f"{source.name} is a big-endian GGUF; only little-endian ones are read")
    if version not in VERSIONS:
        raise InvalidGGUF(f"{source.name} is GGUF version {version}; only 2 and 3 are read")
    offset = _MAGIC_AND_VERSION.size
    tensor_count, key_count = source.unpack(_COUNTS, offset, what)
    room = source.size - offset - _COUNTS.size
    for name, count, limit, least_size in (
        ("keys", key_count, MAX_KEYS, _LEAST_ENTRY_SIZE),
        ("tensors", tensor_count, MAX_TENSORS, LEAST_INFO_SIZE),
    ):
        if count > min(limit, room // least_size):
            raise source.invalid(what, offset, f"{count} {name}, more than can be in this file")
    return version, tensor_count, key_count
