"""Calls as ``invoke`` tags with a tag for each parameter: MiniMax M2, DeepSeek V3.2, Muse Glimmer.

::

    <minimax:tool_call>
    <invoke name="get_weather">
    <parameter name="city">Paris</parameter>
    </invoke>
    </minimax:tool_call>
    <｜DSML｜function_calls>
    <｜DSML｜invoke name="get_weather">
    <｜DSML｜parameter name="city" string="true">Paris</｜DSML｜parameter>
    </｜DSML｜invoke>
    </｜DSML｜function_calls>

DeepSeek V4 says ``tool_calls`` instead of ``function_calls``, V4.1 has a space before each word,
and GigaChat 3.5 writes GCML in place of DSML. Muse Glimmer's tags begin with ``atem:``. Neither
they nor those of dots, within ``dots_function_call``, say what a value is.
"""

from __future__ import annotations

from typing import Any, Final

from llamaherd.grammar import Exactly, Form, InOrder
from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.parameters import read_value, write_parameters
from llamaherd.prompt.parsers.source import SPACE, Malformed, Reading, Source
from llamaherd.prompt.parsers.stream import CallFormat, CallReader
from llamaherd.prompt.parsers.writing import CallForm, Signature, Writing

#: What stands around all calls, and what every other tag begins with.
_FAMILIES: Final = (
    ("minimax:tool_call", ""),
    ("dots_function_call", ""),
    ("atem:function_calls", "atem:"),
    ("｜DSML｜function_calls", "｜DSML｜"),
    ("｜DSML｜tool_calls", "｜DSML｜"),
    ("｜DSML｜ calls", "｜DSML｜ "),
    ("｜GCML｜tool_calls", "｜GCML｜"),
)

#: The prefixes of tags that say whether a value is a text.
_TELLING: Final = ("｜DSML｜", "｜DSML｜ ", "｜GCML｜")

#: How DeepSeek says whether a value is a text; what it isn't is JSON.
_KINDS: Final[dict[str, Any]] = {
    "": None,
    ' string="true"': {"type": "string"},
    ' string="false"': {"type": "object"},
}


def _reader(around: str, prefix: str) -> CallReader:
    def read(source: Source, toolbox: Toolbox) -> Reading[None]:
        yield from source.literal(f"<{around}>")
        yield from source.skip(SPACE)
        yield from source.literal(f"<{prefix}invoke")
        yield from read_invocation(source, toolbox, prefix)
        while (yield from source.optional(f"<{prefix}invoke")):
            yield from read_invocation(source, toolbox, prefix)
        yield from source.optional(f"</{around}>")

    return read


def read_invocation(source: Source, toolbox: Toolbox, prefix: str) -> Reading[None]:
    """A call from behind the word ``invoke`` of its first tag."""
    yield from source.literal(' name="')
    name = yield from source.until('">')
    toolbox.require(name)
    arguments: dict[str, Any] = {}
    while not (yield from source.optional(f"</{prefix}invoke>")):
        yield from source.skip(SPACE)
        yield from source.literal(f'<{prefix}parameter name="')
        key = yield from source.until('"')
        kind = yield from source.until(">")
        if kind not in _KINDS:
            raise Malformed
        schema = _KINDS[kind] or toolbox.properties(name).get(key)
        arguments[key] = yield from read_value(source, schema, f"</{prefix}parameter>")
    yield toolbox.call(name, arguments)


def invocation(prefix: str, before: str = "", after: str = "") -> CallForm:
    """A call in tags that begin with ``prefix``, between two texts."""

    def tag(name: str, text: bool) -> str:
        kind = f' string="{"true" if text else "false"}"' if prefix in _TELLING else ""
        return f'<{prefix}parameter name="{name}"{kind}>'

    def write(signature: Signature) -> Form:
        head = Exactly(f'{before}<{prefix}invoke name="{signature.name}">\n')
        parameters = write_parameters(signature, tag, f"</{prefix}parameter>", "\n")
        return InOrder((head, parameters, Exactly(f"</{prefix}invoke>{after}")))

    return write


FORMAT: Final = CallFormat(
    "invoke",
    {f"<{around}>": _reader(around, prefix) for around, prefix in _FAMILIES},
    marks=(
        "<minimax:tool_call>",
        "<dots_function_call>",
        "<atem:function_calls>",
        "<｜DSML｜",
        "<｜GCML｜",
    ),
    writings=tuple(
        Writing(
            invocation(prefix),
            opening=f"<{around}>\n",
            separator="\n",
            closing=f"\n</{around}>",
            mark=f"<{around}>",
        )
        for around, prefix in _FAMILIES
    ),
)
