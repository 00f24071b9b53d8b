"""Strings as Go has them: sequences of bytes that are mostly UTF-8.

A byte that is not part of valid UTF-8 (from ``"\\xff"`` or a slice through a character) travels in
a Python string as a lone surrogate U+DC80..U+DCFF, and leaves the engine as U+FFFD.
"""

from __future__ import annotations

import re

_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_A_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_SHORT_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
}


def to_bytes(text: str) -> bytes:
    """The bytes of a Go string; surrogates that stand for no byte become U+FFFD."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return _NOT_A_BYTE.sub("\ufffd", text).encode("utf-8", "surrogateescape")


def from_bytes(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def clean(text: str) -> str:
    """Text that can be encoded: broken bytes become U+FFFD, split characters are whole again."""
    if not _SURROGATE.search(text):
        return text
    return to_bytes(text).decode("utf-8", "replace")


def byte_length(text: str) -> int:
    return len(text) if text.isascii() else len(to_bytes(text))


def is_byte(char: str) -> bool:
    """Whether the character stands for a byte that is not valid UTF-8."""
    return "\udc80" <= char <= "\udcff"


def is_printable(char: str) -> bool:
    """``strconv.IsPrint``: letters, marks, numbers, punctuation, symbols and the ASCII space."""
    return char.isprintable()


def quote(text: str, *, delimiter: str = '"', ascii_only: bool = False) -> str:
    """``strconv.Quote``: a Go string (or character) literal of the text."""
    return delimiter + "".join(_escape(char, delimiter, ascii_only) for char in text) + delimiter


def _escape(char: str, delimiter: str, ascii_only: bool) -> str:
    code = ord(char)
    if is_byte(char):
        return f"\\x{code - 0xDC00:02x}"
    if 0xD800 <= code < 0xE000:
        return "\\ufffd"
    if char == delimiter:
        return "\\" + char
    if char in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[char]
    if is_printable(char) and (code < 0x80 or not ascii_only):
        return char
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def can_backquote(text: str) -> bool:
    """Whether the text can stand between back quotes unchanged (``strconv.CanBackquote``)."""
    return not any(
        (char < " " and char != "\t") or char in "`\x7f\ufeff" or is_byte(char) for char in text
    )


def unicode_name(char: str) -> str:
    """``U+0021 '!'``, as ``%#U`` prints a character."""
    code = f"U+{ord(char):04X}"
    return f"{code} '{char}'" if is_printable(char) else code
