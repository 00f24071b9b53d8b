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

from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.json_values import decode, read_json
from llamaherd.prompt.parsers.source import SPACE, Malformed, Reading, Source

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
        parameter, text = yield from _read_parameter(source)
        arguments[parameter] = _typed(text, toolbox.properties(name).get(parameter))
    yield toolbox.call(name, arguments)


def _read_parameter(source: Source) -> Reading[tuple[str, str]]:
    """Name and text; the line breaks next to the tags aren't part of the text."""
    yield from source.literal("<parameter=")
    name = yield from source.skip(_NAME)
    yield from source.literal(">")
    text = yield from source.until("</parameter>")
    return name, text.removeprefix("\n").removesuffix("\n")


def _typed(text: str, schema: Any) -> Any:
    """Text is JSON where the tool's definition wants no string, if it can be read as such."""
    if not isinstance(schema, dict) or schema.get("type", "string") == "string":
        return text
    try:
        return decode(text)
    except Malformed:
        return text
