"""A call in tags of its own, with arguments as JSON (Llama 3.1, Functionary) or in tags (Qwen 3).

::

    <function=get_weather>{"city": "Paris"}</function>
    <function=get_weather>
    <parameter=city>
    Paris
    </parameter>
    </function>
"""

from __future__ import annotations

import re
from typing import Any, Final

from llamaherd.grammar import Exactly, Form, InOrder
from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.json_values import read_json
from llamaherd.prompt.parsers.parameters import read_value, write_parameters
from llamaherd.prompt.parsers.source import SPACE, Reading, Source
from llamaherd.prompt.parsers.writing import CallForm, Signature

_NAME: Final = re.compile(r"[^<>\s]*")


def read_function_tag(source: Source, toolbox: Toolbox) -> Reading[None]:
    yield from source.literal("<function=")
    name = yield from source.skip(_NAME)
    yield from source.literal(">")
    toolbox.require(name)
    yield from source.skip(SPACE)
    if (yield from source.peek()) == "{":
        yield toolbox.call(name, (yield from read_json(source)))
        yield from source.optional("</function>")
        return
    arguments: dict[str, Any] = {}
    while not (yield from source.optional("</function>")):
        yield from source.skip(SPACE)
        yield from source.literal("<parameter=")
        parameter = yield from source.skip(_NAME)
        yield from source.literal(">")
        schema = toolbox.properties(name).get(parameter)
        arguments[parameter] = yield from read_value(source, schema, "</parameter>")
    yield toolbox.call(name, arguments)


def write_function_tag(before: str, after: str, *, lines: bool = True) -> CallForm:
    """A call with arguments in tags, between two texts.

    With ``lines`` an argument has lines of its own.
    """

    def write(signature: Signature) -> Form:
        parameters = write_parameters(
            signature, lambda name, _: f"<parameter={name}>", "</parameter>", "\n", lines=lines
        )
        head = Exactly(f"{before}<function={signature.name}>\n")
        return InOrder((head, parameters, Exactly(f"</function>{after}")))

    return write
