"""DeepSeek V3 and R1, and since V3.1 without the word and the fence.

::

    <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather
    ```json
    {"city": "Paris"}
    ```<｜tool▁call▁end｜><｜tool▁calls▁end｜>
    <｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Paris"}<｜tool▁call▁end｜>
"""

from __future__ import annotations

import re
from typing import Final

from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.json_values import read_json
from llamaherd.prompt.parsers.marked import marked
from llamaherd.prompt.parsers.python_calls import NAME
from llamaherd.prompt.parsers.source import SPACE, Reading, Source
from llamaherd.prompt.parsers.stream import CallFormat
from llamaherd.prompt.parsers.writing import Writing, named_call

_CALLS: Final = "<｜tool▁calls▁begin｜>"
_CALLS_END: Final = "<｜tool▁calls▁end｜>"
_CALL: Final = "<｜tool▁call▁begin｜>"
_CALL_END: Final = "<｜tool▁call▁end｜>"
_SEPARATOR: Final = "<｜tool▁sep｜>"


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


#: A name that isn't mistaken for the older word before it.
_UNMISTAKABLE: Final = re.compile(r"(?!function$)[\w.-]+")

FORMAT: Final = CallFormat(
    "deepseek",
    marked(_CALL, _read_call, _CALLS, _CALLS_END),
    marks=(_CALLS, _CALL),
    writings=(
        Writing(
            named_call(f"{_CALL}function{_SEPARATOR}", "\n```json\n", f"\n```{_CALL_END}"),
            opening=_CALLS,
            separator="\n",
            closing=_CALLS_END,
            mark="```json",
        ),
        Writing(
            named_call(_CALL, _SEPARATOR, _CALL_END),
            opening=_CALLS,
            closing=_CALLS_END,
            names=_UNMISTAKABLE,
        ),
    ),
)
