"""Values of Go's literals: quoted strings, character constants and numbers (``strconv``)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from llamaherd.prompt.go_text import from_bytes, quote, to_bytes

_SIMPLE_ESCAPES = {
    "a": b"\a",
    "b": b"\b",
    "f": b"\f",
    "n": b"\n",
    "r": b"\r",
    "t": b"\t",
    "v": b"\v",
    "\\": b"\\",
}
_HEX_ESCAPES = {"x": 2, "u": 4, "U": 8}
_PLAIN_RUN = re.compile(r"[^\\]+")
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL
)
_INTEGER = re.compile(
    r"([+-]?)(0[xX]_?[0-9a-fA-F](?:_?[0-9a-fA-F])*|0[oO]_?[0-7](?:_?[0-7])*"
    r"|0[bB]_?[01](?:_?[01])*|0(?:_?[0-7])*|[1-9](?:_?[0-9])*)"
)
_DECIMAL_FLOAT = re.compile(
    r"[+-]?(?:[0-9](?:_?[0-9])*(?:\.(?:[0-9](?:_?[0-9])*)?)?|\.[0-9](?:_?[0-9])*)"
    r"(?:[eE][+-]?[0-9](?:_?[0-9])*)?"
)
_HEX_FLOAT = re.compile(
    r"[+-]?0[xX]_?(?:[0-9a-fA-F](?:_?[0-9a-fA-F])*(?:\.(?:[0-9a-fA-F](?:_?[0-9a-fA-F])*)?)?"
    r"|\.[0-9a-fA-F](?:_?[0-9a-fA-F])*)[pP][+-]?[0-9](?:_?[0-9])*"
)
_COMPLEX = re.compile(r"(.*?[^eEpP+-])([+-].*)i")

_MAX_DIGITS = 400
_INT64 = range(-(2**63), 2**63)
_UINT64 = range(2**64)


class BadLiteral(ValueError):
    """A literal that Go rejects, in Go's words."""


@dataclass(frozen=True, slots=True)
class Oversized:
    """The value of an integer literal beyond int64 but within uint64: using it is an error."""


def unquote(literal: str) -> str:
    """The text of a ``"quoted"`` or `` `raw` `` literal; raises BadLiteral."""
    body = literal[1:-1]
    if literal[0] == "`":
        return body.replace("\r", "")
    return from_bytes(_unescape(body, '"'))


def character(literal: str) -> int:
    """The code point of a ``'c'`` literal; raises BadLiteral."""
    body = literal[1:-1]
    escape = _ESCAPE.match(body)
    if not body or (body[0] == "\\" and not escape):
        raise BadLiteral("invalid syntax")
    first = escape.group() if escape else body[0]
    if escape and (escape[1] or escape[4]):
        code = _checked_byte(escape)
    else:
        code = ord(_escaped_bytes(escape, "'").decode() if escape else first)
    if first != body:
        raise BadLiteral(f"malformed character constant: {literal}")
    return code


def _unescape(body: str, delimiter: str) -> bytes:
    data = bytearray()
    pos = 0
    while pos < len(body):
        found = _PLAIN_RUN.match(body, pos)
        if found:
            data += to_bytes(found.group())
        else:
            found = _ESCAPE.match(body, pos)
            if not found:
                raise BadLiteral("invalid syntax")
            data += _escaped_bytes(found, delimiter)
        pos = found.end()
    return bytes(data)


def _escaped_bytes(escape: re.Match[str], delimiter: str) -> bytes:
    _, short, long, _, simple = escape.groups()
    if simple is not None:
        if simple == delimiter:
            return simple.encode()
        if simple not in _SIMPLE_ESCAPES:
            raise BadLiteral("invalid syntax")
        return _SIMPLE_ESCAPES[simple]
    code = short or long
    if code is None:
        return bytes([_checked_byte(escape)])
    point = int(code, 16)
    if point > 0x10FFFF or 0xD800 <= point < 0xE000:
        raise BadLiteral("invalid syntax")
    return chr(point).encode()


def _checked_byte(escape: re.Match[str]) -> int:
    value = int(escape[1], 16) if escape[1] else int(escape[4], 8)
    if value > 0xFF:
        raise BadLiteral("invalid syntax")
    return value


def number(literal: str) -> int | float | complex | Oversized:
    """The value of a numeric literal, typed as Go types it where nothing else decides.

    Raises BadLiteral for what is no number or fits no Go type.
    """
    if len(literal) > _MAX_DIGITS:
        raise BadLiteral(f"illegal number syntax: {quote(literal[:20])}...")
    if literal.endswith("i") and (imaginary := _float(literal[:-1])) is not None:
        return complex(0, imaginary)
    integer = _integer(literal)
    if integer is not None and integer in _INT64:
        return integer
    if integer is not None and integer in _UINT64 and literal[0] not in "+-":
        return Oversized()
    value = _float(literal)
    if value is None:
        raise BadLiteral(f"illegal number syntax: {quote(literal)}")
    if not any(mark in literal for mark in ".eEpP"):
        raise BadLiteral(f"integer overflow: {quote(literal)}")
    return value


def complex_number(literal: str) -> complex:
    """The value of ``1+2i``."""
    found = _COMPLEX.fullmatch(literal)
    real = _float(found[1]) if found else None
    imaginary = _float(found[2]) if found else None
    if real is None or imaginary is None:
        raise BadLiteral("syntax error scanning complex number")
    return complex(real, imaginary)


def _integer(literal: str) -> int | None:
    found = _INTEGER.fullmatch(literal)
    if not found:
        return None
    digits = found[2].replace("_", "").lower()
    if digits[0] == "0" and digits[1:].isdigit():
        digits = "0o" + digits[1:]
    value = int(digits, 0)
    return -value if found[1] == "-" else value


def _float(literal: str) -> float | None:
    """``strconv.ParseFloat``; None for what is no float or beyond the range of float64."""
    digits = literal.replace("_", "")
    if _HEX_FLOAT.fullmatch(literal):
        try:
            return float.fromhex(digits)
        except OverflowError:
            return None
    if not _DECIMAL_FLOAT.fullmatch(literal):
        return None
    value = float(digits)
    return None if value in (float("inf"), float("-inf")) else value
