"""The files of a model that is to be converted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from llamaherd.errors import BadRequest
from llamaherd.store.files import store_errors

#: The largest file that is read as a whole, in bytes; large vocabularies have some 35 MB.
MAX_TEXT_FILE: Final = 256 << 20

T = TypeVar("T")


class ModelFolder:
    """Files by their names relative to the folder; where they really lie is another matter."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = dict(files)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._files))

    def path(self, name: str) -> Path:
        """Raises ``BadRequest`` when the file isn't there."""
        path = self._files.get(name)
        if path is None:
            raise BadRequest(f"{name} is missing")
        return path

    def read(self, name: str) -> bytes:
        """The whole file; raises ``BadRequest`` when it isn't there or is too large."""
        path = self.path(name)
        with store_errors("read", path), path.open("rb") as file:
            content = file.read(MAX_TEXT_FILE + 1)
        if len(content) > MAX_TEXT_FILE:
            raise BadRequest(f"{name}: larger than the {MAX_TEXT_FILE >> 20} MB that are read")
        return content

    def text(self, name: str) -> str:
        try:
            return self.read(name).decode()
        except UnicodeDecodeError:
            raise BadRequest(f"{name}: not UTF-8") from None

    def json(self, name: str, kind: type[T]) -> T:
        """Decoded as ``kind``, a msgspec type; raises ``BadRequest`` where it isn't one."""
        return decode_json(self.read(name), kind, name)

    def json_object(self, name: str) -> dict[str, Any]:
        """Empty when the file isn't there."""
        return self.json(name, dict[str, Any]) if name in self else {}


def decode_json(content: bytes, kind: type[T], name: str) -> T:
    """Raises ``BadRequest``, naming the file, for what isn't JSON or not of this shape."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"{name}: {error}") from None
    except RecursionError:
        raise BadRequest(f"{name}: nested too deeply") from None
