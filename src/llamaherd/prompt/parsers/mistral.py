"""Mistral.

::

    [TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Paris"}}]
    [TOOL_CALLS]get_weather[CALL_ID]Xa7bQ1zP0[ARGS]{"city": "Paris"}

The second is the format since Mistral Small 3.2, where each call has the tag.
"""

from __future__ import annotations

from typing import Final

from llamaherd.prompt.parsers.calls import Toolbox, read_calls
from llamaherd.prompt.parsers.json_values import read_json
from llamaherd.prompt.parsers.python_calls import NAME
from llamaherd.prompt.parsers.source import SPACE, Reading, Source
from llamaherd.prompt.parsers.stream import CallFormat
from llamaherd.prompt.parsers.writing import Writing, json_call, named_call

_TAG: Final = "[TOOL_CALLS]"


def _read(source: Source, toolbox: Toolbox) -> Reading[None]:
    yield from source.literal(_TAG)
    yield from source.skip(SPACE)
    if (yield from source.peek()) in ("[", "{"):
        yield from read_calls(source, toolbox)
        return
    name = yield from source.skip(NAME)
    toolbox.require(name)
    if (yield from source.optional("[CALL_ID]")):
        yield from source.skip(NAME)
    yield from source.optional("[ARGS]")
    yield from source.skip(SPACE)
    yield toolbox.call(name, (yield from read_json(source)))


FORMAT: Final = CallFormat(
    "mistral",
    {_TAG: _read},
    marks=(_TAG,),
    writings=(
        Writing(named_call(_TAG, "[ARGS]"), mark="[ARGS]"),
        Writing(json_call(), opening=f"{_TAG}[", separator=", ", closing="]", names=None),
    ),
)
