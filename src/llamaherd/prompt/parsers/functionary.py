"""MeetKai's Functionary 3.2, which addresses each part of a reply to a tool or to all.

::

    >>>get_weather
    {"city": "Paris"}

The first ``>>>`` is in the prompt already; what the model says to all is a matter of the frame.
Functionary 3.1 writes Llama's function tags.
"""

from __future__ import annotations

from typing import Final

from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.json_values import read_json
from llamaherd.prompt.parsers.python_calls import NAME
from llamaherd.prompt.parsers.source import SPACE, Reading, Source
from llamaherd.prompt.parsers.stream import CallFormat
from llamaherd.prompt.parsers.writing import Writing, named_call

_RECIPIENT: Final = ">>>"


def _read(source: Source, toolbox: Toolbox) -> Reading[None]:
    yield from source.literal(_RECIPIENT)
    name = yield from source.skip(NAME)
    toolbox.require(name)
    yield from source.skip(SPACE)
    yield toolbox.call(name, (yield from read_json(source)))


FORMAT: Final = CallFormat(
    "functionary",
    {_RECIPIENT: _read},
    marks=(">>>${recipient}",),
    writings=(Writing(named_call("", "\n"), opening=_RECIPIENT, separator=_RECIPIENT),),
)
