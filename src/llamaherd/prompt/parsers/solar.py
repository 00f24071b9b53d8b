"""Upstage's Solar Open, whose calls have ids.

::

    <|tool_calls|><|tool_call:begin|>a1b2c3d4e5<|tool_call:name|>get_weather
    <|tool_call:args|>{"city": "Paris"}<|tool_call:end|>

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
from llamaherd.prompt.parsers.python_calls import NAME
from llamaherd.prompt.parsers.source import SPACE, Reading, Source
from llamaherd.prompt.parsers.stream import CallFormat
from llamaherd.prompt.parsers.writing import Signature, Writing

_CALLS: Final = "<|tool_calls|>"
_CALL: Final = "<|tool_call:begin|>"
_NAME: Final = "<|tool_call:name|>"
_ARGUMENTS: Final = "<|tool_call:args|>"
_CALL_END: Final = "<|tool_call:end|>"


def _read_call(source: Source, toolbox: Toolbox) -> Reading[None]:
    yield from source.skip(SPACE)
    call_id = yield from source.skip(NAME)
    yield from source.literal(_NAME)
    name = yield from source.skip(NAME)
    toolbox.require(name)
    yield from source.literal(_ARGUMENTS)
    yield from source.skip(SPACE)
    call = toolbox.call(name, (yield from read_json(source)))
    yield msgspec.structs.replace(call, id=call_id)
    yield from source.optional(_CALL_END)


def _write_call(signature: Signature) -> Form:
    head = f"{_CALL}call_{signature.number}{_NAME}{signature.name}{_ARGUMENTS}"
    return InOrder((Exactly(head), signature.arguments(), Exactly(_CALL_END)))


FORMAT: Final = CallFormat(
    "solar",
    marked(_CALL, _read_call, _CALLS, ""),
    marks=(_CALL,),
    writings=(
        Writing(
            _write_call,
            opening=_CALLS,
            several=False,
            numbered=re.compile(rf"{re.escape(_CALL)}call_([0-9]{{1,9}})(?![0-9])"),
        ),
    ),
)
