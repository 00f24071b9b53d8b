"""GLM 4.5 and later, and those that follow it: names, and keys and values in tags.

::

    <tool_call>get_weather
    <arg_key>city</arg_key>
    <arg_value>Paris</arg_value>
    </tool_call>

Hunyuan 3 has a suffix in all its tags, another tag after the name and one around all calls. Its
preview lacks the suffix, and LongCat has a prefix instead, as in ``<longcat_tool_call>``.
"""

from __future__ import annotations

import re
from typing import Any, Final

from msgspec import Struct

from llamaherd.grammar import Exactly, Form, InOrder
from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.parameters import read_value, write_parameters
from llamaherd.prompt.parsers.source import SPACE, Reading, Source
from llamaherd.prompt.parsers.stream import CallFormat, CallReader
from llamaherd.prompt.parsers.writing import CallForm, Signature, Writing

_NAME: Final = re.compile(r"[^<>\s]*")


class _Tags(Struct, frozen=True):
    """Words around which a family's tags are made, by what stands before and after them."""

    before: str = ""
    after: str = ""

    def opening(self, word: str) -> str:
        return f"<{self.before}{word}{self.after}>"

    def closing(self, word: str) -> str:
        return f"</{self.before}{word}{self.after}>"


_GLM: Final = _Tags()
_HUNYUAN: Final = _Tags(after=":opensource")
_LONGCAT: Final = _Tags(before="longcat_")


def _reader(tags: _Tags) -> CallReader:
    def read(source: Source, toolbox: Toolbox) -> Reading[None]:
        if (yield from source.optional(tags.opening("tool_calls"))):
            yield from source.skip(SPACE)
        yield from _read_call(source, toolbox, tags)
        while (yield from source.optional(tags.opening("tool_call"))):
            yield from _read_rest(source, toolbox, tags)
        yield from source.optional(tags.closing("tool_calls"))

    return read


def _read_call(source: Source, toolbox: Toolbox, tags: _Tags) -> Reading[None]:
    yield from source.literal(tags.opening("tool_call"))
    yield from _read_rest(source, toolbox, tags)


def _read_rest(source: Source, toolbox: Toolbox, tags: _Tags) -> Reading[None]:
    yield from source.skip(SPACE)
    name = yield from source.skip(_NAME)
    toolbox.require(name)
    yield from source.optional(tags.opening("tool_sep"))
    arguments: dict[str, Any] = {}
    while (yield from source.optional(tags.opening("arg_key"))):
        key = (yield from source.until(tags.closing("arg_key"))).strip()
        yield from source.skip(SPACE)
        yield from source.literal(tags.opening("arg_value"))
        schema = toolbox.properties(name).get(key)
        arguments[key] = yield from read_value(source, schema, tags.closing("arg_value"))
    yield toolbox.call(name, arguments)
    yield from source.optional(tags.closing("tool_call"))


def _writer(tags: _Tags, after_name: str, line: str) -> CallForm:
    def tag(name: str, _: bool) -> str:
        key = f"{tags.opening('arg_key')}{name}{tags.closing('arg_key')}"
        return f"{key}{line}{tags.opening('arg_value')}"

    def write(signature: Signature) -> Form:
        head = Exactly(f"{tags.opening('tool_call')}{signature.name}{after_name}{line}")
        parameters = write_parameters(signature, tag, tags.closing("arg_value"), line)
        return InOrder((head, parameters, Exactly(tags.closing("tool_call"))))

    return write


FORMAT: Final = CallFormat(
    "glm",
    {
        tags.opening(word): _reader(tags)
        for tags in (_GLM, _HUNYUAN, _LONGCAT)
        for word in ("tool_calls", "tool_call")
    },
    marks=("<arg_key>", "<arg_key:", _LONGCAT.opening("tool_call")),
    writings=(
        Writing(
            _writer(_HUNYUAN, _HUNYUAN.opening("tool_sep"), "\n"),
            opening=f"{_HUNYUAN.opening('tool_calls')}\n",
            separator="\n",
            closing=f"\n{_HUNYUAN.closing('tool_calls')}",
            mark=_HUNYUAN.opening("tool_call"),
        ),
        Writing(_writer(_LONGCAT, "", "\n"), separator="\n", mark=_LONGCAT.opening("tool_call")),
        Writing(_writer(_GLM, "", ""), mark="</arg_key><arg_value>"),
        Writing(_writer(_GLM, "", "\n"), separator="\n"),
    ),
)
