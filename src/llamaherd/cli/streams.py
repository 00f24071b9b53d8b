"""The standard streams: input that somebody else decides the length of, and what can be drawn."""

from __future__ import annotations

import os
import sys
from typing import BinaryIO, Final, TextIO

from llamaherd.cli.parsing import CommandError
from llamaherd.config import terminal_is_dumb

#: More than a server reads of a prompt, or keeps of a text in a model; in bytes.
LONGEST_INPUT: Final = 128 << 20

#: Terminals narrower than this are left to wrap by themselves.
_NARROWEST: Final = 10


def read_all(stream: BinaryIO, what: str) -> bytes:
    """All of ``stream``; raises ``CommandError`` beyond ``LONGEST_INPUT``, as for a device."""
    content = stream.read(LONGEST_INPUT + 1)
    if len(content) > LONGEST_INPUT:
        raise CommandError(f"{what} is too large: more than {LONGEST_INPUT} bytes")
    return content


def can_draw(stream: TextIO) -> bool:
    """Whether ``stream`` shows colours and moves a cursor: a terminal, and not a dumb one."""
    return stream.isatty() and not terminal_is_dumb()


def wrapping_width(stream: TextIO) -> int | None:
    """Columns to wrap words at, as wide as the terminal is just now; None where that can't be."""
    if not can_draw(stream):
        return None
    width = os.get_terminal_size(stream.fileno()).columns
    return width if width >= _NARROWEST else None


def drop_output() -> None:
    """Discard what is still to be written; the interpreter would try once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
