"""Cohere's Command R, whose next generation has tags.

::

    Action: ```json
    [{"tool_name": "get_weather", "parameters": {"city": "Paris"}}]
    ```
    <|START_ACTION|>[{"tool_call_id": "0", "tool_name": …}]<|END_ACTION|>
"""

from __future__ import annotations

from typing import Final

from llamaherd.prompt.parsers.calls import Toolbox, read_calls
from llamaherd.prompt.parsers.source import SPACE, Reading, Source
from llamaherd.prompt.parsers.stream import CallFormat
from llamaherd.prompt.parsers.tagged import tagged
from llamaherd.prompt.parsers.writing import Writing, json_call


def _read(source: Source, toolbox: Toolbox) -> Reading[None]:
    yield from source.literal("Action:")
    yield from source.skip(SPACE)
    yield from source.literal("```json")
    yield from source.skip(SPACE)
    yield from read_calls(source, toolbox)
    yield from source.optional("```")


FORMAT: Final = CallFormat(
    "command-r",
    {"Action:": _read, "<|START_ACTION|>": tagged("<|START_ACTION|>", "<|END_ACTION|>")},
    marks=("<|START_ACTION|>", "Action:"),
    writings=(
        Writing(
            json_call("tool_name", "parameters"),
            opening="<|START_ACTION|>[\n    ",
            separator=",\n    ",
            closing="\n]<|END_ACTION|>",
            mark="<|START_ACTION|>",
            names=None,
        ),
        Writing(
            json_call("tool_name", "parameters"),
            opening="Action: ```json\n[\n    ",
            separator=",\n    ",
            closing="\n]```",
            names=None,
        ),
    ),
)
