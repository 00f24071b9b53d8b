"""Llama 3 and 4, and every model that writes its calls as bare JSON or Python.

::

    {"name": "get_weather", "parameters": {"city": "Paris"}}
    <|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}; {"name": …}
    <function=get_weather>{"city": "Paris"}</function>
    [get_weather(city="Paris"), get_time()]
"""

from __future__ import annotations

from typing import Final

from llamaherd.prompt.parsers.calls import Toolbox, read_calls
from llamaherd.prompt.parsers.fences import JSON_FENCES, PYTHON_FENCES
from llamaherd.prompt.parsers.function_tags import read_function_tag
from llamaherd.prompt.parsers.python_calls import read_python_call, read_python_list
from llamaherd.prompt.parsers.source import SPACE, Reading, Source
from llamaherd.prompt.parsers.stream import CallFormat
from llamaherd.prompt.parsers.tagged import tagged
from llamaherd.prompt.parsers.writing import Writing, json_call


def _read_bracket(source: Source, toolbox: Toolbox) -> Reading[None]:
    """A list in JSON or in Python."""
    start = source.position
    yield from source.literal("[")
    yield from source.skip(SPACE)
    json = (yield from source.peek()) == "{"
    source.position = start
    yield from (read_calls if json else read_python_list)(source, toolbox)


def _read_python_tag(source: Source, toolbox: Toolbox) -> Reading[None]:
    """What the tag is followed by may be a program, which is no call."""
    yield from source.literal("<|python_tag|>")
    yield from source.skip(SPACE)
    if (yield from source.peek()) not in ("{", "["):
        yield from read_python_call(source, toolbox)
        return
    yield from read_calls(source, toolbox)
    while (yield from source.optional(";")):
        yield from source.skip(SPACE)
        yield from read_calls(source, toolbox)


FORMAT: Final = CallFormat(
    "llama",
    {
        "{": tagged("", ";"),
        "[": _read_bracket,
        **JSON_FENCES,
        **PYTHON_FENCES,
        "<|python_tag|>": _read_python_tag,
        "<function=": read_function_tag,
    },
    marks=("<|python_tag|>",),
    writings=(Writing(json_call(arguments="parameters"), separator="; ", names=None),),
)
