"""Calls as JSON after a tag, as most families write them."""

from __future__ import annotations

from llamaherd.prompt.parsers.calls import USUAL_KEYS, Keys, Toolbox, read_calls
from llamaherd.prompt.parsers.source import SPACE, Reading, Source
from llamaherd.prompt.parsers.stream import CallReader


def tagged(opening: str, closing: str = "", keys: Keys = USUAL_KEYS) -> CallReader:
    """``opening``, JSON objects or a list of them, ``closing``; each may be missing in its turn.

    Without an ``opening`` the JSON stands for itself. A model may forget ``closing``.
    """

    def read(source: Source, toolbox: Toolbox) -> Reading[None]:
        yield from source.literal(opening)
        yield from source.skip(SPACE)
        yield from read_calls(source, toolbox, keys)
        if closing:
            yield from source.optional(closing)

    return read
