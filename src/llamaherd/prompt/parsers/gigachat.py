"""Sber's GigaChat 3, which calls in the name of a role of its own; each turn has one call.

::

    <|message_sep|>

    function call<|role_sep|>
    {"name": "get_weather", "arguments": {"city": "Paris"}}
    <|function_call|>{"name": "get_weather", "arguments": {"city": "Paris"}}

The second is how GigaChat 3.1 writes. GigaChat 3.5 writes tags, as DeepSeek V4 does.
"""

from __future__ import annotations

from typing import Final

from llamaherd.prompt.parsers.stream import CallFormat
from llamaherd.prompt.parsers.tagged import tagged
from llamaherd.prompt.parsers.writing import Writing, json_call

_ROLE: Final = "<|message_sep|>\n\nfunction call<|role_sep|>\n"
_TAG: Final = "<|function_call|>"

FORMAT: Final = CallFormat(
    "gigachat",
    {_ROLE: tagged(_ROLE), _TAG: tagged(_TAG)},
    marks=(_TAG, "<|role_sep|>"),
    writings=(
        Writing(json_call(before=_TAG), mark=_TAG, names=None, several=False),
        Writing(json_call(before=_ROLE), names=None, several=False),
    ),
)
