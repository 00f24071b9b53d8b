"""Input that somebody else decides the length of."""

from __future__ import annotations

from typing import BinaryIO, Final

from llamaherd.cli.parsing import CommandError

#: More than a server reads of a prompt, or keeps of a text in a model; in bytes.
LONGEST_INPUT: Final = 128 << 20


def read_all(stream: BinaryIO, what: str) -> bytes:
    """All of ``stream``; raises ``CommandError`` beyond ``LONGEST_INPUT``, as for a device."""
    content = stream.read(LONGEST_INPUT + 1)
    if len(content) > LONGEST_INPUT:
        raise CommandError(f"{what} is too large: more than {LONGEST_INPUT} bytes")
    return content
