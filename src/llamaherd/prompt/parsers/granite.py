"""IBM's Granite 3.

::

    <|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]
"""

from __future__ import annotations

from typing import Final

from llamaherd.prompt.parsers.stream import CallFormat
from llamaherd.prompt.parsers.tagged import tagged
from llamaherd.prompt.parsers.writing import Writing, json_call

_TAG: Final = "<|tool_call|>"

FORMAT: Final = CallFormat(
    "granite",
    {_TAG: tagged(_TAG)},
    marks=(_TAG,),
    writings=(Writing(json_call(), opening=f"{_TAG}[", separator=", ", closing="]", names=None),),
)
