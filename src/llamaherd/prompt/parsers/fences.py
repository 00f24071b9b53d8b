"""Calls in Markdown's fences, as models write them that have no tags of their own.

::

    ```json
    {"name": "get_weather", "parameters": {"city": "Paris"}}
    ```
    ```python
    [get_weather(city="Paris"), get_time()]
    ```
    ```tool_code
    get_weather(city="Paris")
    ```

Gemma's documentation has its models write the last. The others are what templates ask for, JSON or
a list in Python, in the fences in which models without a tag for it put any code. Programs that
call anything else are text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.python_calls import read_python_lines, read_python_list
from llamaherd.prompt.parsers.source import SPACE, Reading, Source
from llamaherd.prompt.parsers.stream import CallReader
from llamaherd.prompt.parsers.tagged import tagged


def _fenced(opening: str, read_body: CallReader) -> CallReader:
    def read(source: Source, toolbox: Toolbox) -> Reading[None]:
        yield from source.literal(opening)
        yield from source.skip(SPACE)
        yield from read_body(source, toolbox)
        yield from source.optional("```")

    return read


def _read_list_or_lines(source: Source, toolbox: Toolbox) -> Reading[None]:
    listed = (yield from source.peek()) == "["
    yield from (read_python_list if listed else read_python_lines)(source, toolbox)


JSON_FENCES: Final[Mapping[str, CallReader]] = {"```json": tagged("```json", "```")}

PYTHON_FENCES: Final[Mapping[str, CallReader]] = {
    "```python": _fenced("```python", read_python_list),
    "```tool_code": _fenced("```tool_code", _read_list_or_lines),
}
