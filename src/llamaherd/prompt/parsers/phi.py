"""Microsoft's Phi 4 mini, in either of the ways that it was told to.

::

    <|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]<|/tool_call|>
    functools[{"name": "get_weather", "arguments": {"city": "Paris"}}]
"""

from __future__ import annotations

from typing import Final

from llamaherd.prompt.parsers.stream import CallFormat
from llamaherd.prompt.parsers.tagged import tagged

_TAG: Final = "<|tool_call|>"

FORMAT: Final = CallFormat(
    "phi",
    {_TAG: tagged(_TAG, "<|/tool_call|>"), "functools": tagged("functools")},
    marks=("<|/tool_call|>", "<|/tool|>"),
)
