"""Lists of calls in Python's syntax, between tags in Llama 4 and LFM 2.

::

    [get_weather(city="Paris"), get_time()]
    <|python_start|>[get_weather(city="Paris")]<|python_end|>
    <|tool_call_start|>[get_weather(city="Paris")]<|tool_call_end|>
"""

from __future__ import annotations

from typing import Final

from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.python_calls import read_python_list, write_python_call
from llamaherd.prompt.parsers.source import SPACE, Reading, Source
from llamaherd.prompt.parsers.stream import CallFormat, CallReader
from llamaherd.prompt.parsers.writing import Writing


def _within(opening: str, closing: str) -> CallReader:
    def read(source: Source, toolbox: Toolbox) -> Reading[None]:
        yield from source.literal(opening)
        yield from source.skip(SPACE)
        yield from read_python_list(source, toolbox)
        yield from source.optional(closing)

    return read


FORMAT: Final = CallFormat(
    "pythonic",
    {
        "[": read_python_list,
        "<|python_start|>": _within("<|python_start|>", "<|python_end|>"),
        "<|tool_call_start|>": _within("<|tool_call_start|>", "<|tool_call_end|>"),
    },
    marks=("<|python_start|>", "<|tool_call_start|>", "<|tool_list_start|>", "[func_name1("),
    writings=(
        *(
            Writing(
                write_python_call,
                opening=f"{opening}[",
                separator=", ",
                closing=f"]{closing}",
                mark=mark,
            )
            for opening, closing, mark in (
                ("<|tool_call_start|>", "<|tool_call_end|>", "<|tool_call_start|>"),
                ("<|tool_call_start|>", "<|tool_call_end|>", "<|tool_list_start|>"),
                ("<|python_start|>", "<|python_end|>", "<|python_start|>"),
            )
        ),
        Writing(write_python_call, opening="[", separator=", ", closing="]"),
    ),
)
