"""Calls that each begin with a mark, together between two others that may be missing."""

from __future__ import annotations

from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.source import SPACE, Reading, Source
from llamaherd.prompt.parsers.stream import CallReader


def marked(mark: str, read_call: CallReader, opening: str, closing: str) -> dict[str, CallReader]:
    """The readers by what they open with; ``read_call`` reads what follows the ``mark``."""

    def read_all(source: Source, toolbox: Toolbox) -> Reading[None]:
        yield from source.literal(opening)
        yield from source.skip(SPACE)
        yield from read_calls(source, toolbox)

    def read_calls(source: Source, toolbox: Toolbox) -> Reading[None]:
        yield from source.literal(mark)
        yield from read_call(source, toolbox)
        while (yield from source.optional(mark)):
            yield from read_call(source, toolbox)
        if closing:
            yield from source.optional(closing)

    return {opening: read_all, mark: read_calls}
