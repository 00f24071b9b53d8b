"""Editing what a file is to be: the keys and tensors of a ``DerivedFile`` in the making."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self, TypeVar, overload

from llamaherd.compat.derived import DerivedFile, DerivedTensor, Span, tensor_size
from llamaherd.errors import InvalidGGUF
from llamaherd.gguf import GGUF, Array, TensorInfo
from llamaherd.gguf.header import Value, encode_entry, rename_entry

#: The layout of the source's data is not that of the derived file.
_DROPPED: Final = ("general.alignment",)

#: What sizes, and the numbers in lists, may be.
LARGEST: Final = 2**31 - 1
_LARGEST_UINT32: Final = 2**32 - 1

#: Of how many pieces the tensors of one file may be, those apart that are whole. Mistral's encoders
#: have their rows put in order, 50,000 of them.
_MOST_PIECES: Final = 1 << 19

T = TypeVar("T")
D = TypeVar("D")

_REQUIRED: Final = object()


@dataclass(frozen=True, slots=True)
class _Kept:
    """A value of the source; of an array, its first ``items`` if that is a number."""

    key: str
    items: int | None = None


class Rows(Sequence[Span]):
    """Pieces of ``whole``, each of ``size`` bytes."""

    def __init__(self, whole: Span, size: int) -> None:
        self._whole = whole
        self._size = size

    def __len__(self) -> int:
        return self._whole.nbytes // self._size

    @overload
    def __getitem__(self, index: int) -> Span: ...
    @overload
    def __getitem__(self, index: slice) -> list[Span]: ...
    def __getitem__(self, index: int | slice) -> Span | list[Span]:
        if isinstance(index, slice):
            return [self[each] for each in range(len(self))[index]]
        offset = self._whole.offset + range(len(self))[index] * self._size
        return self._whole._replace(offset=offset, nbytes=self._size)


class Draft:
    """Keys and tensors, at first those of ``gguf``; both have the names they are to have.

    What is missing raises ``InvalidGGUF`` that names it.
    """

    def __init__(self, gguf: GGUF) -> None:
        self.gguf: Final = gguf
        self.architecture: Final = gguf.architecture
        self._keys: dict[str, Value | _Kept] = {
            key: _Kept(key) for key in gguf.metadata if key not in _DROPPED
        }
        self._tensors = {tensor.name: _whole(gguf, tensor) for tensor in gguf.tensors}
        self._original = (dict(self._keys), dict(self._tensors))
        self._pieces_left = _MOST_PIECES

    @classmethod
    def without_keys(cls, gguf: GGUF, tensors: Sequence[str]) -> Self:
        """Of the source, no key and only the tensors whose names begin with one of these."""
        draft = cls(gguf)
        draft._keys = {}
        draft._tensors = {
            name: tensor
            for name, tensor in draft._tensors.items()
            if name.startswith(tuple(tensors))
        }
        return draft

    @property
    def changed(self) -> bool:
        return (self._keys, self._tensors) != self._original

    def finish(self) -> DerivedFile:
        entries = (self._encode(key, value) for key, value in self._keys.items())
        named = self._keys["general.architecture"]
        architecture = named if isinstance(named, str) else self.architecture
        return DerivedFile(architecture, tuple(entries), tuple(self._tensors.values()))

    def _encode(self, key: str, value: Value | _Kept) -> bytes:
        if isinstance(value, _Kept):
            return rename_entry(self.gguf.metadata.encoded_value(value.key, value.items), key)
        return encode_entry(key, value)

    # --- keys -------------------------------------------------------------------------------

    @overload
    def value(self, name: str, kind: type[T]) -> T: ...
    @overload
    def value(self, name: str, kind: type[T], default: D) -> T | D: ...
    def value(self, name: str, kind: type[Any], default: object = _REQUIRED) -> object:
        """The source's value of a key of its architecture, as ``GGUF.arch_value``."""
        if default is _REQUIRED:
            return self.gguf.arch_value(name, kind)
        return self.gguf.arch_value(name, kind, default)

    def size(self, name: str, default: int | None = None) -> int:
        """The source's value of a key of its architecture that counts something."""
        number = self.value(name, int) if default is None else self.value(name, int, default)
        if not 1 <= number <= LARGEST:
            raise self.unsound(
                f"key '{self.architecture}.{name}' is {number}, expected 1 to {LARGEST}"
            )
        return number

    def blocks(self, name: str) -> range:
        """The numbers of blocks, of which each has a tensor at least."""
        count = self.size(name)
        if count > len(self.gguf.tensors):
            raise self.unsound(
                f"key '{self.architecture}.{name}' is {count}, but there are only "
                f"{len(self.gguf.tensors)} tensors"
            )
        return range(count)

    def numbers(self, name: str) -> list[int]:
        """The source's whole numbers of a key of its architecture; none where there is no key."""
        values = self.value(name, Array, ())
        numbers = [value for value in values if type(value) is int and 0 <= value <= LARGEST]
        if len(numbers) != len(values):
            raise self.unsound(
                f"key '{self.architecture}.{name}' is no list of whole numbers from 0 to {LARGEST}"
            )
        return numbers

    def has(self, key: str) -> bool:
        return key in self._keys

    def set(self, values: Mapping[str, Value]) -> None:
        for key, value in values.items():
            if isinstance(value, int) and not 0 <= value <= _LARGEST_UINT32:
                raise self.unsound(f"{key} would be {value}, of 0 to {_LARGEST_UINT32}")
            self._keys[key] = value

    def default(self, values: Mapping[str, Value]) -> None:
        """Set those that are missing."""
        self.set({key: value for key, value in values.items() if key not in self._keys})

    def take(self, names: Mapping[str, str]) -> None:
        """Set keys (the values of ``names``) to the source's of its architecture, if there are."""
        for name, key in names.items():
            source = f"{self.architecture}.{name}"
            if source in self.gguf.metadata and key not in self._keys:
                self._keys[key] = _Kept(source)

    def require(self, names: Mapping[str, str]) -> None:
        """As ``take``, of keys that the source must have."""
        for name in names:
            if (key := f"{self.architecture}.{name}") not in self.gguf.metadata:
                raise self.unsound(f"key '{key}' is missing")
        self.take(names)

    def drop_keys(self, *keys: str) -> None:
        for key in keys:
            self._keys.pop(key, None)

    def shorten(self, keys: Iterable[str], items: int) -> None:
        """Keep of arrays only their first ``items``."""
        for key in keys:
            array = self.gguf.get(key)
            if isinstance(array, Array) and len(array) > items:
                self._keys[key] = _Kept(key, items)

    def become(self, architecture: str) -> None:
        """Name another architecture, and the source's keys after that."""
        old = f"{self.architecture}."
        self._keys = {
            f"{architecture}.{key.removeprefix(old)}" if key.startswith(old) else key: value
            for key, value in self._keys.items()
        }
        self._keys["general.architecture"] = architecture

    # --- tensors ----------------------------------------------------------------------------

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def names(self) -> Iterable[str]:
        """Of the tensors."""
        return self._tensors.keys()

    def any_tensor(self, *prefixes: str) -> bool:
        """Whether there is one whose name begins with one of ``prefixes``."""
        return any(name.startswith(prefixes) for name in self._tensors)

    def tensor(self, name: str) -> DerivedTensor:
        try:
            return self._tensors[name]
        except KeyError:
            raise self.unsound(f"tensor {name!r} is missing") from None

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        """Of a tensor of so many dimensions, of which none is empty."""
        shape = self.tensor(name).shape
        if len(shape) != dimensions or not all(1 <= size <= LARGEST for size in shape):
            raise self.unsound(
                f"tensor {name!r} has the shape {shape}, expected {dimensions} dimensions of "
                f"1 to {LARGEST}"
            )
        return shape

    def matrix(self, name: str) -> tuple[int, int]:
        """How many columns and rows it has."""
        columns, rows = self.shape(name, 2)
        return columns, rows

    def drop(self, *prefixes: str) -> None:
        self._tensors = {
            name: tensor for name, tensor in self._tensors.items() if not name.startswith(prefixes)
        }

    def rename(self, change: Callable[[str], str]) -> None:
        renamed = [replace(tensor, name=change(name)) for name, tensor in self._tensors.items()]
        self._tensors = {tensor.name: tensor for tensor in renamed}
        if len(self._tensors) != len(renamed):
            [(name, _)] = Counter(tensor.name for tensor in renamed).most_common(1)
            raise self.unsound(f"two tensors would be {name!r}")

    def rename_parts(self, parts: Mapping[str, str]) -> None:
        """Replace runs of parts of names, which dots divide, in the order of ``parts``."""

        def change(name: str) -> str:
            dotted = f".{name}."
            for old, new in parts.items():
                dotted = dotted.replace(f".{old}.", f".{new}.")
            return dotted[1:-1]

        self.rename(change)

    def put(self, name: str, shape: tuple[int, ...], type_: str, spans: Sequence[Span]) -> None:
        self._tensors[name] = DerivedTensor(name, shape, type_, tuple(spans))

    def widen(self, *names: str) -> None:
        """Make the numbers of tensors 32-bit floats; no matter if there is no such tensor."""
        for name in names:
            if name in self._tensors:
                self._tensors[name] = replace(self._tensors[name], type="F32")

    def join(self, name: str, parts: Sequence[str]) -> None:
        """Of tensors whose rows are of one length make one that has the rows of all.

        It keeps their type, or has 32-bit floats if they differ in that.
        """
        tensors = [self.tensor(part) for part in parts]
        inner = tensors[0].shape[:-1]
        if not all(tensor.shape and tensor.shape[:-1] == inner for tensor in tensors):
            raise self.unsound(f"tensors {', '.join(parts)} do not fit together")
        types = {tensor.type for tensor in tensors}
        for part in parts:
            del self._tensors[part]
        self.put(
            name,
            (*inner, sum(tensor.shape[-1] for tensor in tensors)),
            types.pop() if len(types) == 1 else "F32",
            [span for tensor in tensors for span in tensor.spans],
        )

    def cut(self, name: str, rows: int) -> None:
        """Keep the first ``rows`` of a matrix."""
        tensor = self.tensor(name)
        (span,) = tensor.spans
        shape = (self.matrix(name)[0], rows)
        self.put(name, shape, tensor.type, [span._replace(nbytes=tensor_size(shape, tensor.type))])

    def rows(self, name: str) -> Rows:
        """Where the source has the rows of its matrix of this name."""
        tensor = next((tensor for tensor in self.gguf.tensors if tensor.name == name), None)
        if tensor is None:
            raise self.unsound(f"tensor {name!r} is missing")
        if len(tensor.shape) != 2 or not tensor.nbytes:
            raise self.unsound(f"tensor {name!r} has the shape {tensor.shape}, expected a matrix")
        (whole,) = _whole(self.gguf, tensor).spans
        return Rows(whole, tensor_size(tensor.shape[:1], tensor.type))

    def spend(self, pieces: int, name: str) -> None:
        """Refuse a file whose tensors are to be of more pieces than any model's."""
        self._pieces_left -= pieces
        if self._pieces_left < 0:
            raise self.unsound(f"tensor {name!r} is of {pieces} pieces, more than of any model")

    def unsound(self, problem: str) -> InvalidGGUF:
        return InvalidGGUF(f"{self.gguf.name}: {problem}")


def _whole(gguf: GGUF, tensor: TensorInfo) -> DerivedTensor:
    span = Span(gguf.data_offset + tensor.offset, tensor.nbytes, tensor.type)
    return DerivedTensor(tensor.name, tensor.shape, tensor.type, (span,))
