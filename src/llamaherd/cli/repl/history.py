"""The lines that were typed, in the file that Ollama keeps them in: the oldest first."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from llamaherd.store.files import FolderLock, open_file, store_errors, write_atomically

#: Lines that are kept.
LIMIT: Final = 100

_PRIVATE: Final = 0o600


class HistoryFile:
    """A file of lines that several conversations at once may add to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FolderLock(path.parent)

    def lines(self) -> list[str]:
        """The lines that aren't empty; raises ``StoreError`` for a file that can't be read."""
        with store_errors("read", self.path):
            try:
                with open_file(self.path) as file:
                    content = file.read()
            except FileNotFoundError:
                return []
        found = (line.strip() for line in content.decode("utf-8", "replace").split("\n"))
        return [line for line in found if line]

    def add(self, text: str) -> None:
        """Keep the lines of ``text``; raises ``StoreError`` if they can't be written."""
        with self._lock.held():
            kept = _latest([*self.lines(), *text.split("\n")])
            content = "".join(f"{line}\n" for line in kept)
            write_atomically(self.path, content.encode("utf-8", "replace"), mode=_PRIVATE)


def _latest(lines: Iterable[str]) -> list[str]:
    return [line for line in lines if line.strip()][-LIMIT:]
