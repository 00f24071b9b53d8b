"""Moonshot's Kimi K3, whose tags are made of special tokens around plain words.

::

    <|open|>tools<|sep|><|open|>call tool="get_weather" index="1"<|sep|>
    <|open|>argument key="city" type="string"<|sep|>Paris<|close|>argument<|sep|>
    <|close|>call<|sep|><|close|>tools<|sep|>

without the line breaks. Attributes are escaped as in XML. In place of arguments a call may have one
tag ``json`` around an object of them.
"""

from __future__ import annotations

import re
from typing import Any, Final

from llamaherd.grammar import Exactly, Form, InOrder
from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.json_values import read_json
from llamaherd.prompt.parsers.marked import marked
from llamaherd.prompt.parsers.parameters import read_value, write_parameters
from llamaherd.prompt.parsers.source import SPACE, Malformed, Reading, Source
from llamaherd.prompt.parsers.stream import CallFormat
from llamaherd.prompt.parsers.writing import Signature, Writing

_SEP: Final = "<|sep|>"
_TOOLS: Final = f"<|open|>tools{_SEP}"
_TOOLS_END: Final = f"<|close|>tools{_SEP}"
_CALL: Final = '<|open|>call tool="'
_CALL_END: Final = f"<|close|>call{_SEP}"
_ARGUMENT_END: Final = f"<|close|>argument{_SEP}"
_JSON_END: Final = f"<|close|>json{_SEP}"

_TYPE: Final = re.compile(r'\stype="(\w+)"')
_WORD: Final = re.compile(r"\w*")

#: What values that stand as JSON are called by their schema's type; others are called objects.
_KINDS: Final = {
    **{kind: kind for kind in ("number", "boolean", "null", "array")},
    "integer": "number",
}


def _read_call(source: Source, toolbox: Toolbox) -> Reading[None]:
    name = _unescaped((yield from source.until('"')))
    toolbox.require(name)
    yield from source.until(_SEP)
    arguments: dict[str, Any] = {}
    while not (yield from source.optional(_CALL_END)):
        yield from source.skip(SPACE)
        yield from source.literal("<|open|>")
        kind = yield from source.skip(_WORD)
        if kind == "argument":
            key, value = yield from _read_argument(source)
            arguments[key] = value
        elif kind == "json":
            yield from source.until(_SEP)
            yield from source.skip(SPACE)
            yield toolbox.call(name, (yield from read_json(source)))
            yield from source.optional(_JSON_END)
            yield from source.optional(_CALL_END)
            return
        else:
            raise Malformed
    yield toolbox.call(name, arguments)


def _read_argument(source: Source) -> Reading[tuple[str, Any]]:
    yield from source.literal(' key="')
    key = _unescaped((yield from source.until('"')))
    kind = _TYPE.match((yield from source.until(_SEP)))
    schema = {"type": kind[1] if kind else "string"}
    return key, (yield from read_value(source, schema, _ARGUMENT_END, exact=True))


def _unescaped(value: str) -> str:
    return value.replace("&quot;", '"').replace("&amp;", "&")


def _write(signature: Signature) -> Form:
    types = {parameter.name: parameter.schema.get("type") for parameter in signature.parameters()}

    def tag(name: str, text: bool) -> str:
        kind = "string" if text else _KINDS.get(str(types[name]), "object")
        return f'<|open|>argument key="{name.replace("&", "&amp;")}" type="{kind}"{_SEP}'

    head = Exactly(f'{_CALL}{signature.name}" index="1"{_SEP}')
    arguments = write_parameters(signature, tag, _ARGUMENT_END, exact=True)
    return InOrder((head, arguments, Exactly(_CALL_END)))


FORMAT: Final = CallFormat(
    "kimi-k3",
    marked(_CALL, _read_call, _TOOLS, _TOOLS_END),
    marks=("<|end_of_msg|>",),
    writings=(Writing(_write, opening=_TOOLS, closing=_TOOLS_END, several=False),),
)
