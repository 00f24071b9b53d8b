"""GLM 4.5 and later, and those that follow it: names, and keys and values in tags.

::

    <tool_call>get_weather
    <arg_key>city</arg_key>
    <arg_value>Paris</arg_value>
    </tool_call>

Hunyuan 3 has a suffix in all its tags, another tag after the name and one around all calls.
"""

from __future__ import annotations

import re
from typing import Any, Final

from llamaherd.grammar import Exactly, Form, InOrder
from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.parameters import read_value, write_parameters
from llamaherd.prompt.parsers.source import SPACE, Reading, Source
from llamaherd.prompt.parsers.stream import CallFormat, CallReader
from llamaherd.prompt.parsers.writing import CallForm, Signature, Writing

_NAME: Final = re.compile(r"[^<>\s]*")
_HUNYUAN: Final = ":opensource"


def _reader(suffix: str) -> CallReader:
    def read(source: Source, toolbox: Toolbox) -> Reading[None]:
        if (yield from source.optional(f"<tool_calls{suffix}>")):
            yield from source.skip(SPACE)
        yield from _read_call(source, toolbox, suffix)
        while (yield from source.optional(f"<tool_call{suffix}>")):
            yield from _read_rest(source, toolbox, suffix)
        yield from source.optional(f"</tool_calls{suffix}>")

    return read


def _read_call(source: Source, toolbox: Toolbox, suffix: str) -> Reading[None]:
    yield from source.literal(f"<tool_call{suffix}>")
    yield from _read_rest(source, toolbox, suffix)


def _read_rest(source: Source, toolbox: Toolbox, suffix: str) -> Reading[None]:
    yield from source.skip(SPACE)
    name = yield from source.skip(_NAME)
    toolbox.require(name)
    yield from source.optional(f"<tool_sep{suffix}>")
    arguments: dict[str, Any] = {}
    while (yield from source.optional(f"<arg_key{suffix}>")):
        key = (yield from source.until(f"</arg_key{suffix}>")).strip()
        yield from source.skip(SPACE)
        yield from source.literal(f"<arg_value{suffix}>")
        schema = toolbox.properties(name).get(key)
        arguments[key] = yield from read_value(source, schema, f"</arg_value{suffix}>")
    yield toolbox.call(name, arguments)
    yield from source.optional(f"</tool_call{suffix}>")


def _writer(suffix: str, after_name: str, line: str) -> CallForm:
    def write(signature: Signature) -> Form:
        head = Exactly(f"<tool_call{suffix}>{signature.name}{after_name}{line}")
        parameters = write_parameters(
            signature,
            lambda name, _: f"<arg_key{suffix}>{name}</arg_key{suffix}>{line}<arg_value{suffix}>",
            f"</arg_value{suffix}>",
            line,
        )
        return InOrder((head, parameters, Exactly(f"</tool_call{suffix}>")))

    return write


FORMAT: Final = CallFormat(
    "glm",
    {
        "<tool_call>": _reader(""),
        f"<tool_calls{_HUNYUAN}>": _reader(_HUNYUAN),
        f"<tool_call{_HUNYUAN}>": _reader(_HUNYUAN),
    },
    marks=("<arg_key>", "<arg_key:"),
    writings=(
        Writing(
            _writer(_HUNYUAN, f"<tool_sep{_HUNYUAN}>", "\n"),
            opening=f"<tool_calls{_HUNYUAN}>\n",
            separator="\n",
            closing=f"\n</tool_calls{_HUNYUAN}>",
            mark=f"<tool_call{_HUNYUAN}>",
        ),
        Writing(_writer("", "", ""), mark="</arg_key><arg_value>"),
        Writing(_writer("", "", "\n"), separator="\n"),
    ),
)
