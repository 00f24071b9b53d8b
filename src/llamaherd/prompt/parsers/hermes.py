"""Hermes, Qwen and the many that follow them.

::

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Paris"}}
    </tool_call>

Qwen 3 Coder writes a function tag in place of the JSON, and so does Seed, in ``<seed:tool_call>``.
"""

from __future__ import annotations

from typing import Final

from llamaherd.prompt.parsers.calls import Toolbox, read_calls
from llamaherd.prompt.parsers.function_tags import read_function_tag, write_function_tag
from llamaherd.prompt.parsers.source import SPACE, Reading, Source
from llamaherd.prompt.parsers.stream import CallFormat, CallReader
from llamaherd.prompt.parsers.writing import Writing, json_call, named_call


def _reader(tag: str) -> CallReader:
    def read(source: Source, toolbox: Toolbox) -> Reading[None]:
        yield from source.literal(f"<{tag}>")
        yield from source.skip(SPACE)
        if (yield from source.peek()) == "<":
            yield from read_function_tag(source, toolbox)
        else:
            yield from read_calls(source, toolbox)
        yield from source.optional(f"</{tag}>")

    return read


FORMAT: Final = CallFormat(
    "hermes",
    {
        "<tool_call>": _reader("tool_call"),
        "<seed:tool_call>": _reader("seed:tool_call"),
        "<function=": read_function_tag,
    },
    marks=("<tool_call>", "<function=", "<seed:tool_call>"),
    writings=(
        Writing(
            write_function_tag("<seed:tool_call>\n", "\n</seed:tool_call>", lines=False),
            separator="\n",
            mark="<seed:tool_call>",
        ),
        Writing(
            write_function_tag("<tool_call>\n", "\n</tool_call>"),
            separator="\n",
            mark="<parameter=",
        ),
        Writing(named_call("<function=", ">", "</function>"), mark="<function="),
        Writing(
            json_call(before="<tool_call>\n", after="\n</tool_call>"), separator="\n", names=None
        ),
    ),
)
