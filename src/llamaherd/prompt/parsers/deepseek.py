"""DeepSeek V3 and R1, and since V3.1 without the word and the fence.

::

    <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather
    ```json
    {"city": "Paris"}
    ```<｜tool▁call▁end｜><｜tool▁calls▁end｜>
    <｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Paris"}<｜tool▁call▁end｜>
"""

from __future__ import annotations

from typing import Final

from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.json_values import read_json
from llamaherd.prompt.parsers.python_calls import NAME
from llamaherd.prompt.parsers.source import SPACE, Reading, Source
from llamaherd.prompt.parsers.stream import CallFormat

_CALLS: Final = "<｜tool▁calls▁begin｜>"
_CALLS_END: Final = "<｜tool▁calls▁end｜>"
_CALL: Final = "<｜tool▁call▁begin｜>"
_CALL_END: Final = "<｜tool▁call▁end｜>"
_SEPARATOR: Final = "<｜tool▁sep｜>"


def _read_all(source: Source, toolbox: Toolbox) -> Reading[None]:
    yield from source.literal(_CALLS)
    yield from source.skip(SPACE)
    yield from _read_calls(source, toolbox)


def _read_calls(source: Source, toolbox: Toolbox) -> Reading[None]:
    yield from source.literal(_CALL)
    yield from _read_call(source, toolbox)
    while (yield from source.optional(_CALL)):
        yield from _read_call(source, toolbox)
    yield from source.optional(_CALLS_END)


def _read_call(source: Source, toolbox: Toolbox) -> Reading[None]:
    name = yield from source.skip(NAME)
    yield from source.literal(_SEPARATOR)
    if name == "function":
        name = yield from source.skip(NAME)
    toolbox.require(name)
    yield from source.optional("```json")
    yield from source.skip(SPACE)
    yield toolbox.call(name, (yield from read_json(source)))
    yield from source.optional("```")
    yield from source.optional(_CALL_END)


FORMAT: Final = CallFormat(
    "deepseek", {_CALLS: _read_all, _CALL: _read_calls}, marks=(_CALLS, _CALL)
)
