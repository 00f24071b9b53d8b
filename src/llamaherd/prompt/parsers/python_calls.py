"""Calls in Python's syntax: ``get_weather(city="Paris", days=[1, 2])``.

Values are literals of Python or JSON, read by a grammar of our own: what a model writes is never
evaluated.
"""

from __future__ import annotations

import re
from typing import Any, Final

from llamaherd.errors import FormatError
from llamaherd.grammar import Exactly, Form, InOrder, OneOf
from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.json_values import MAX_DEPTH, decode
from llamaherd.prompt.parsers.source import SPACE, Malformed, Reading, Source
from llamaherd.prompt.parsers.writing import Signature, listed

NAME: Final = re.compile(r"[\w.-]*")

_WORD: Final = re.compile(r"[\w.+-]*")
_WORDS: Final = {
    "True": True,
    "False": False,
    "None": None,
    "true": True,
    "false": False,
    "null": None,
}
_CLOSING: Final = {"[": "]", "(": ")"}
_ESCAPE: Final = re.compile(
    r"\\(?:u([dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|x([0-9a-fA-F]{2})|(.))",
    re.DOTALL,
)
_ESCAPES: Final = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "b": "\b",
    "f": "\f",
    "\\": "\\",
    "'": "'",
    '"': '"',
    "\n": "",
}
_PLAIN: Final = {'"': re.compile(r'[^"\\]*'), "'": re.compile(r"[^'\\]*")}


def read_python_list(source: Source, toolbox: Toolbox) -> Reading[None]:
    """``[call, call]``."""
    yield from source.literal("[")
    while True:
        yield from source.skip(SPACE)
        yield from read_python_call(source, toolbox)
        if (yield from source.optional("]")):
            return
        yield from source.skip(SPACE)
        yield from source.literal(",")


def read_python_lines(source: Source, toolbox: Toolbox) -> Reading[None]:
    """Calls with only white space between."""
    while True:
        yield from read_python_call(source, toolbox)
        end = source.position
        yield from source.skip(SPACE)
        if not re.match(r"[^\W\d]", source.text[source.position : source.position + 1]):
            source.position = end
            return


def read_python_call(source: Source, toolbox: Toolbox) -> Reading[None]:
    """One call. Arguments without a name are the tool's parameters in their order."""
    name = yield from source.skip(NAME)
    toolbox.require(name)
    parameters = list(toolbox.properties(name))
    arguments: dict[str, Any] = {}
    yield from source.literal("(")
    yield from source.skip(SPACE)
    while (yield from source.peek()) != ")":
        given, value = yield from _read_argument(source)
        if not given:
            if len(arguments) >= len(parameters):
                raise Malformed
            given = parameters[len(arguments)]
        arguments[given] = value
        yield from source.skip(SPACE)
        if (yield from source.peek()) != ")":
            yield from source.literal(",")
            yield from source.skip(SPACE)
    yield from source.literal(")")
    yield toolbox.call(name, arguments)


def _read_argument(source: Source) -> Reading[tuple[str, Any]]:
    """Its name, empty if it has none, and its value."""
    if re.match(r"[^\W\d]", (yield from source.peek())):
        word = yield from source.skip(_WORD)
        yield from source.skip(SPACE)
        if (yield from source.peek()) != "=":
            return "", _word(word)
        source.position += 1
        yield from source.skip(SPACE)
        return word, (yield from _read_value(source, MAX_DEPTH))
    return "", (yield from _read_value(source, MAX_DEPTH))


def _read_value(source: Source, depth: int) -> Reading[Any]:
    if depth == 0:
        raise Malformed
    match (yield from source.peek()):
        case '"' | "'":
            return (yield from _read_string(source))
        case "[" | "(" as opening:
            return (yield from _read_items(source, depth, _CLOSING[opening]))
        case "{":
            return (yield from _read_dict(source, depth))
        case _:
            return _word((yield from source.skip(_WORD)))


def _word(word: str) -> Any:
    """A constant or a number."""
    if word in _WORDS:
        return _WORDS[word]
    value = decode(word)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise Malformed
    return value


def _read_items(source: Source, depth: int, closing: str) -> Reading[list[Any]]:
    items: list[Any] = []
    yield from source.take(1)
    yield from source.skip(SPACE)
    while (yield from source.peek()) != closing:
        items.append((yield from _read_value(source, depth - 1)))
        yield from source.skip(SPACE)
        if (yield from source.peek()) != closing:
            yield from source.literal(",")
            yield from source.skip(SPACE)
    source.position += 1
    return items


def _read_dict(source: Source, depth: int) -> Reading[dict[str, Any]]:
    members: dict[str, Any] = {}
    yield from source.take(1)
    yield from source.skip(SPACE)
    while (yield from source.peek()) != "}":
        key = yield from _read_string(source)
        yield from source.skip(SPACE)
        yield from source.literal(":")
        yield from source.skip(SPACE)
        members[key] = yield from _read_value(source, depth - 1)
        yield from source.skip(SPACE)
        if (yield from source.peek()) != "}":
            yield from source.literal(",")
            yield from source.skip(SPACE)
    source.position += 1
    return members


def _read_string(source: Source) -> Reading[str]:
    """A string in single or double quotes, once or three times."""
    quote = yield from source.take(1)
    if quote not in _PLAIN:
        raise Malformed
    if (yield from source.peek()) == quote:
        source.position += 1
        if (yield from source.peek()) != quote:
            return ""
        source.position += 1
        quote *= 3
    start = source.position
    while True:
        yield from source.skip(_PLAIN[quote[0]])
        if (yield from source.peek()) == "\\":
            yield from source.take(2)
        elif len(quote) == 1 or (yield from _closes(source, quote)):
            break
    text = source.text[start : source.position]
    source.position += len(quote)
    return _ESCAPE.sub(_unescape, text)


def _closes(source: Source, quote: str) -> Reading[bool]:
    """Whether the three quotes stand here; one or two of them are text and are passed over."""
    start = source.position
    for _ in quote:
        if (yield from source.take(1)) != quote[0]:
            source.position -= 1
            return False
    source.position = start
    return True


def _unescape(match: re.Match[str]) -> str:
    if match[1]:
        return str(decode(f'"{match[0]}"'))
    code = match[2] or match[3] or match[4]
    if code is None:
        return _ESCAPES.get(match[5], match[0])
    number = int(code, 16)
    return "\ufffd" if number > 0x10FFFF or 0xD800 <= number < 0xE000 else chr(number)


#: What a parameter is called in Python, as far as it is read here.
_PARAMETER: Final = re.compile(r"[A-Za-z_]\w*")

#: What may keep a boolean from being either.
_FURTHER: Final = frozenset(("enum", "const", "not", "anyOf", "allOf", "oneOf", "$ref", "if"))

_BOOLEAN: Final = OneOf((Exactly("True"), Exactly("False")))


def write_python_call(signature: Signature) -> Form:
    """The form of a call with all arguments by name; their values are written as in JSON."""
    arguments: list[tuple[Form, bool]] = []
    for parameter in signature.parameters():
        if not _PARAMETER.fullmatch(parameter.name):
            raise FormatError(f"{parameter.field}: this is no name of a parameter in Python")
        plain = parameter.schema.get("type") == "boolean" and not parameter.schema.keys() & _FURTHER
        value = _BOOLEAN if plain else parameter.value()
        form = InOrder((Exactly(f"{parameter.name}="), value))
        arguments.append((form, parameter.required))
    return InOrder((Exactly(f"{signature.name}("), listed(arguments, ", "), Exactly(")")))
