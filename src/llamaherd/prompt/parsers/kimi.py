"""Moonshot's Kimi K2, whose calls are numbered.

::

    <|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0
    <|tool_call_argument_begin|>{"city": "Paris"}<|tool_call_end|><|tool_calls_section_end|>

without the line break.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from llamaherd.grammar import Exactly, Form, InOrder
from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.json_values import read_json
from llamaherd.prompt.parsers.marked import marked
from llamaherd.prompt.parsers.source import SPACE, Malformed, Reading, Source
from llamaherd.prompt.parsers.stream import CallFormat
from llamaherd.prompt.parsers.writing import Signature, Writing

_SECTION: Final = "<|tool_calls_section_begin|>"
_SECTION_END: Final = "<|tool_calls_section_end|>"
_CALL: Final = "<|tool_call_begin|>"
_ARGUMENTS: Final = "<|tool_call_argument_begin|>"
_CALL_END: Final = "<|tool_call_end|>"

_HEAD: Final = re.compile(r"[^<>\s]*")
_NUMBERED: Final = re.compile(r"(?:functions\.)?(.+?)(?::[0-9]+)?")


def _read_call(source: Source, toolbox: Toolbox) -> Reading[None]:
    """What stands before the arguments is the call's id, which its result must repeat."""
    yield from source.skip(SPACE)
    head = yield from source.skip(_HEAD)
    found = _NUMBERED.fullmatch(head)
    if found is None:
        raise Malformed
    toolbox.require(found[1])
    yield from source.skip(SPACE)
    yield from source.literal(_ARGUMENTS)
    yield from source.skip(SPACE)
    call = toolbox.call(found[1], (yield from read_json(source)))
    yield msgspec.structs.replace(call, id=head)
    yield from source.optional(_CALL_END)


def _write_call(signature: Signature) -> Form:
    head = f"{_CALL}functions.{signature.name}:{signature.number}{_ARGUMENTS}"
    return InOrder((Exactly(head), signature.arguments(), Exactly(_CALL_END)))


FORMAT: Final = CallFormat(
    "kimi",
    marked(_CALL, _read_call, _SECTION, _SECTION_END),
    marks=(_SECTION,),
    writings=(
        Writing(
            _write_call,
            opening=_SECTION,
            closing=_SECTION_END,
            several=False,
            numbered=re.compile(rf"{re.escape(_CALL)}[^<>\s]*:([0-9]{{1,9}})(?![0-9])"),
        ),
    ),
)
