"""Lists of calls in Python's syntax, between tags in Llama 4 and LFM 2; Olmo 3 writes lines.

::

    [get_weather(city="Paris"), get_time()]
    <|python_start|>[get_weather(city="Paris")]<|python_end|>
    <|tool_call_start|>[get_weather(city="Paris")]<|tool_call_end|>
    <function_calls>
    get_weather(city="Paris")
    get_time()
    </function_calls>
"""

from __future__ import annotations

from typing import Final

from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.fences import PYTHON_FENCES
from llamaherd.prompt.parsers.python_calls import (
    read_python_lines,
    read_python_list,
    write_python_call,
)
from llamaherd.prompt.parsers.source import SPACE, Reading, Source
from llamaherd.prompt.parsers.stream import CallFormat, CallReader
from llamaherd.prompt.parsers.writing import Writing

_LINES: Final = "<function_calls>"
_LINES_END: Final = "</function_calls>"

#: How Gemma's documentation has its models call.
_CODE: Final = "```tool_code"


def _within(opening: str, closing: str, read_calls: CallReader = read_python_list) -> CallReader:
    def read(source: Source, toolbox: Toolbox) -> Reading[None]:
        yield from source.literal(opening)
        yield from source.skip(SPACE)
        yield from read_calls(source, toolbox)
        yield from source.optional(closing)

    return read


FORMAT: Final = CallFormat(
    "pythonic",
    {
        "[": read_python_list,
        "<|python_start|>": _within("<|python_start|>", "<|python_end|>"),
        "<|tool_call_start|>": _within("<|tool_call_start|>", "<|tool_call_end|>"),
        _LINES: _within(_LINES, _LINES_END, read_python_lines),
        **PYTHON_FENCES,
    },
    marks=(
        *("<|python_start|>", "<|tool_call_start|>", "<|tool_list_start|>", "[func_name1("),
        # LFM 2.5 without thinking, whose template doesn't know of calls.
        "List of tools: [",
        _LINES,
        _CODE,
    ),
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
                ("<|tool_call_start|>", "<|tool_call_end|>", "List of tools: ["),
                ("<|python_start|>", "<|python_end|>", "<|python_start|>"),
            )
        ),
        *(
            Writing(
                write_python_call,
                opening=f"{opening}\n",
                separator="\n",
                closing=f"\n{closing}",
                mark=opening,
            )
            for opening, closing in ((_LINES, _LINES_END), (_CODE, "```"))
        ),
        Writing(write_python_call, opening="[", separator=", ", closing="]"),
    ),
)
