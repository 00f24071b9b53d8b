"""MiniCPM 5.

::

    <function name="get_weather"><param name="city">Paris</param></function>
"""

from __future__ import annotations

from typing import Any, Final

from llamaherd.grammar import Exactly, Form, InOrder
from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.parameters import read_value, write_parameters
from llamaherd.prompt.parsers.source import SPACE, Reading, Source
from llamaherd.prompt.parsers.stream import CallFormat
from llamaherd.prompt.parsers.writing import Signature, Writing

_OPENING: Final = '<function name="'


def _read(source: Source, toolbox: Toolbox) -> Reading[None]:
    yield from source.literal(_OPENING)
    name = yield from source.until('">')
    toolbox.require(name)
    arguments: dict[str, Any] = {}
    while not (yield from source.optional("</function>")):
        yield from source.skip(SPACE)
        yield from source.literal('<param name="')
        key = yield from source.until('">')
        schema = toolbox.properties(name).get(key)
        arguments[key] = yield from read_value(source, schema, "</param>")
    yield toolbox.call(name, arguments)


def _write(signature: Signature) -> Form:
    parameters = write_parameters(signature, lambda name, _: f'<param name="{name}">', "</param>")
    head = Exactly(f'{_OPENING}{signature.name}">')
    return InOrder((head, parameters, Exactly("</function>")))


FORMAT: Final = CallFormat(
    "minicpm", {_OPENING: _read}, marks=(_OPENING,), writings=(Writing(_write, separator="\n"),)
)
