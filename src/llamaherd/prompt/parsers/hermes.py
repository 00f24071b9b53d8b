"""Hermes, Qwen and the many that follow them.

::

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Paris"}}
    </tool_call>

Qwen 3 Coder writes a function tag in place of the JSON.
"""

from __future__ import annotations

from typing import Final

from llamaherd.prompt.parsers.calls import Toolbox, read_calls
from llamaherd.prompt.parsers.function_tags import read_function_tag
from llamaherd.prompt.parsers.source import SPACE, Reading, Source
from llamaherd.prompt.parsers.stream import CallFormat


def _read(source: Source, toolbox: Toolbox) -> Reading[None]:
    yield from source.literal("<tool_call>")
    yield from source.skip(SPACE)
    if (yield from source.peek()) == "<":
        yield from read_function_tag(source, toolbox)
    else:
        yield from read_calls(source, toolbox)
    yield from source.optional("</tool_call>")


FORMAT: Final = CallFormat(
    "hermes",
    {"<tool_call>": _read, "<function=": read_function_tag},
    marks=("<tool_call>", "<function="),
)
