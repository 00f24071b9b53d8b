"""Microsoft's Phi 4 mini, in either of the ways that it was told to.

::

    <|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]<|/tool_call|>
    functools[{"name": "get_weather", "arguments": {"city": "Paris"}}]
"""

from __future__ import annotations

from typing import Final

from llamaherd.prompt.parsers.stream import CallFormat
from llamaherd.prompt.parsers.tagged import tagged
from llamaherd.prompt.parsers.writing import Writing, json_call

_TAG: Final = "<|tool_call|>"

FORMAT: Final = CallFormat(
    "phi",
    {_TAG: tagged(_TAG, "<|/tool_call|>"), "functools": tagged("functools")},
    marks=("<|/tool_call|>", "<|/tool|>"),
    writings=(
        Writing(
            json_call(),
            opening="functools[",
            separator=", ",
            closing="]",
            mark="functools[",
            names=None,
        ),
        Writing(
            json_call(), opening=f"{_TAG}[", separator=", ", closing="]<|/tool_call|>", names=None
        ),
    ),
)
