"""StepFun's Step 3, whose calls are tags within the marks that DeepSeek's have in other characters.

::

    <｜tool_calls_begin｜>
    <｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="get_weather">
    <steptml:parameter name="city">Paris</steptml:parameter>
    </steptml:invoke><｜tool_call_end｜>
    <｜tool_calls_end｜>

Step 3.5 writes as Qwen 3 Coder does.
"""

from __future__ import annotations

from typing import Final

from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.invoke import invocation, read_invocation
from llamaherd.prompt.parsers.marked import marked
from llamaherd.prompt.parsers.source import SPACE, Reading, Source
from llamaherd.prompt.parsers.stream import CallFormat
from llamaherd.prompt.parsers.writing import Writing

_CALLS: Final = "<｜tool_calls_begin｜>"
_CALLS_END: Final = "<｜tool_calls_end｜>"
_CALL: Final = "<｜tool_call_begin｜>"
_CALL_END: Final = "<｜tool_call_end｜>"
_FUNCTION: Final = "function<｜tool_sep｜>"
_PREFIX: Final = "steptml:"


def _read_call(source: Source, toolbox: Toolbox) -> Reading[None]:
    yield from source.literal(_FUNCTION)
    yield from source.skip(SPACE)
    yield from source.literal(f"<{_PREFIX}invoke")
    yield from read_invocation(source, toolbox, _PREFIX)
    yield from source.optional(_CALL_END)


FORMAT: Final = CallFormat(
    "step",
    marked(_CALL, _read_call, _CALLS, _CALLS_END),
    marks=(_CALLS, _CALL),
    writings=(
        Writing(
            invocation(_PREFIX, f"{_CALL}{_FUNCTION}", _CALL_END),
            opening=f"{_CALLS}\n",
            separator="\n",
            closing=f"\n{_CALLS_END}",
        ),
    ),
)
