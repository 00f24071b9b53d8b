"""Apertus, whose calls have the name as the only key.

::

    <|tools_prefix|>[{"get_weather": {"city": "Paris"}}]<|tools_suffix|>
"""

from __future__ import annotations

from typing import Final

from llamaherd.grammar import Exactly, Form, InOrder
from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.json_values import read_json, read_string
from llamaherd.prompt.parsers.source import SPACE, Reading, Source
from llamaherd.prompt.parsers.stream import CallFormat
from llamaherd.prompt.parsers.writing import Signature, Writing

_OPENING: Final = "<|tools_prefix|>"
_CLOSING: Final = "<|tools_suffix|>"


def _read(source: Source, toolbox: Toolbox) -> Reading[None]:
    yield from source.literal(_OPENING)
    yield from source.skip(SPACE)
    yield from source.literal("[")
    while True:
        yield from source.skip(SPACE)
        yield from _read_call(source, toolbox)
        if (yield from source.optional("]")):
            break
        yield from source.skip(SPACE)
        yield from source.literal(",")
    yield from source.optional(_CLOSING)


def _read_call(source: Source, toolbox: Toolbox) -> Reading[None]:
    yield from source.literal("{")
    yield from source.skip(SPACE)
    name = yield from read_string(source)
    toolbox.require(name)
    yield from source.skip(SPACE)
    yield from source.literal(":")
    yield from source.skip(SPACE)
    arguments = yield from read_json(source)
    yield from source.skip(SPACE)
    yield from source.literal("}")
    yield toolbox.call(name, arguments)


def _write(signature: Signature) -> Form:
    return InOrder((Exactly(f"{{{signature.quoted}: "), signature.arguments(), Exactly("}")))


FORMAT: Final = CallFormat(
    "apertus",
    {_OPENING: _read},
    marks=(_OPENING,),
    writings=(
        Writing(_write, opening=f"{_OPENING}[", separator=", ", closing=f"]{_CLOSING}", names=None),
    ),
)
