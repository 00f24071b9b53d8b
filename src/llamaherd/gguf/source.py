"""Bounds-checked reads from an open file."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from struct import Struct, error
from typing import Any, Final

from llamaherd.errors import InvalidGGUF

#: A header is read in windows of this many bytes, a table of strings in blocks.
WINDOW: Final = 1 << 16
BLOCK: Final = 1 << 17

LENGTH: Final = Struct("<Q")


class Source:
    """A file, of which no byte is asked for that it does not have.

    Reads go through the file and not through a memory map, because another process that truncates
    a mapped file kills this one with SIGBUS. Not for use by several threads at a time.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path``. Raises OSError when that fails, or would wait for a pipe's other end."""
        self.name = path.name
        if path.is_fifo():
            raise OSError(errno.EINVAL, "it is a named pipe, not a file", str(path))
        self._file = path.open("rb", buffering=0)
        self.size = os.fstat(self._file.fileno()).st_size
        self._window = b""
        self._window_start = 0

    def close(self) -> None:
        self._file.close()

    def invalid(self, what: str, offset: int, problem: str) -> InvalidGGUF:
        return InvalidGGUF(f"{self.name}: {what} at byte {offset}: {problem}")

    def require(self, offset: int, length: int, what: str) -> None:
        """Refuse a span that is not wholly inside the file."""
        if length > self.size - offset:
            raise self.invalid(
                what, offset, f"needs {length} bytes, but the file ends at byte {self.size}"
            )

    def read(self, offset: int, length: int, what: str) -> bytes:
        self.require(offset, length, what)
        start = offset - self._window_start
        if start < 0 or start + length > len(self._window):
            self._window = self._load(offset, max(length, WINDOW), what)
            self._window_start = offset
            start = 0
        return self._window[start : start + length]

    def unpack(self, layout: Struct, offset: int, what: str) -> tuple[Any, ...]:
        return layout.unpack(self.read(offset, layout.size, what))

    def string_span(self, offset: int, what: str) -> tuple[int, int]:
        """Where the characters of the string at ``offset`` begin, and how many bytes they are."""
        (length,) = self.unpack(LENGTH, offset, what)
        start = offset + LENGTH.size
        self.require(start, length, what)
        return start, length

    def skip_strings(self, offset: int, count: int, what: str) -> int:
        """The end of ``count`` strings in a row, found by walking over their lengths."""
        length_at, prefix = LENGTH.unpack_from, LENGTH.size
        while count:
            self.require(offset, prefix, what)
            block = self._load(offset, BLOCK, what)
            position = done = 0
            # A length read past the block's end raises: cheaper than a comparison per string.
            with suppress(error, OverflowError):
                for done in range(count):  # noqa: B007
                    position += length_at(block, position)[0] + prefix
                done = count
            offset += position
            count -= done
        self.require(offset, 0, what)
        return offset

    def strings(self, offset: int, count: int, what: str) -> Iterator[str]:
        """``count`` strings in a row; bytes that are not UTF-8 become U+FFFD."""
        block, position = b"", 0
        for _ in range(count):
            end = _end_of_string(block, position)
            if end is None:
                offset += position
                _, length = self.string_span(offset, what)
                end = LENGTH.size + length
                block, position = self._load(offset, max(end, BLOCK), what), 0
            yield block[position + LENGTH.size : end].decode("utf-8", "replace")
            position = end

    def _load(self, offset: int, length: int, what: str) -> bytes:
        """``length`` bytes, fewer only at the end of the file."""
        length = min(length, self.size - offset)
        self._file.seek(offset)
        data = self._file.read(length)
        while len(data) < length:
            more = self._file.read(length - len(data))
            if not more:
                raise self.invalid(what, offset, "the file became shorter while it was read")
            data += more
        return data


def _end_of_string(block: bytes, position: int) -> int | None:
    """Where the string at ``position`` ends, if it is wholly inside the block."""
    start = position + LENGTH.size
    if start > len(block):
        return None
    end: int = start + LENGTH.unpack_from(block, position)[0]
    return end if end <= len(block) else None
