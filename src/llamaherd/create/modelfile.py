"""The Modelfile: instructions, one after the other, that say what a model is made of.

::

    # a comment stands on a line of its own
    FROM llama3.2
    PARAMETER temperature 1
    SYSTEM "Text in quotes
    may have several lines."

A value ends with its line; one in quotes ends with the line on which the quote closes. Three quotes
do the same as one. There are no escapes: other quotes inside a value stand for themselves.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from typing import Final, Literal, Self, get_args

from llamaherd.errors import ModelfileError

Instruction = Literal["from", "license", "template", "system", "adapter", "parameter", "message"]
INSTRUCTIONS: Final[tuple[Instruction, ...]] = get_args(Instruction)
MESSAGE_ROLES: Final = ("system", "user", "assistant")

_WRONG_INSTRUCTION: Final = (
    'command must be one of "from", "license", "template", "system", "adapter", '
    '"parameter", or "message"'
)
_WRONG_ROLE: Final = 'message role must be one of "system", "user", or "assistant"'

_NEWLINE: Final = re.compile(r"\r\n|\r|\n")
_BETWEEN: Final = re.compile(r"(?:[ \t\r\n]+|#[^\r\n]*)*")
_WORD: Final = re.compile(r"([^ \t\r\n]*)[ \t]*")
_PARAMETER: Final = re.compile(r"[A-Za-z0-9_]+")
_MARK: Final = re.compile(r'"""|"|')
_LINE_END: Final = r"(?=[\r\n]|\Z)"
_CLOSING: Final = {
    mark: re.compile(rf"{mark}[^\S\r\n]*{_LINE_END}" if mark else _LINE_END)
    for mark in ('"""', '"', "")
}

#: Byte order marks that Windows editors write, and what follows them.
_ENCODINGS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True, slots=True)
class Command:
    """One instruction; ``key`` is the name of a parameter or the role of a message."""

    instruction: Instruction
    value: str
    key: str = ""
    line: int = field(default=0, compare=False)

    def __str__(self) -> str:
        words = [self.instruction.upper(), self.key, quote(self.value)]
        return " ".join(word for word in words if word)


@dataclass(frozen=True, slots=True)
class Modelfile:
    commands: tuple[Command, ...]

    @classmethod
    def parse(cls, content: bytes | str) -> Self:
        """Raises ``ModelfileError`` with the line."""
        text = content if isinstance(content, str) else _decode(content)
        commands = tuple(_Parser(text).commands())
        if not any(command.instruction == "from" for command in commands):
            raise ModelfileError("no FROM line")
        return cls(commands)

    def __str__(self) -> str:
        """The text whose parse gives the same commands, if ``can_quote`` holds for all values."""
        return "".join(f"{command}\n" for command in self.commands)


def quote(value: str) -> str:
    """The value as it must stand in a Modelfile, without quotes where none are needed."""
    bare = value == value.strip() and not _NEWLINE.search(value) and not value.startswith('"')
    if value and bare:
        return value
    return f'"""{value}"""' if '"' in value else f'"{value}"'


def can_quote(value: str) -> bool:
    """False where the language has no way to write it: three quotes at the end of a line."""
    *lines, _ = _NEWLINE.split(value)
    return not any(line.rstrip().endswith('"""') for line in lines)


def _decode(content: bytes) -> str:
    for mark, encoding in _ENCODINGS:
        if content.startswith(mark):
            return _decode_as(encoding, content.removeprefix(mark))
    return _decode_as("utf-8", content)


def _decode_as(encoding: str, content: bytes) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ModelfileError(f"not valid {encoding.upper()} text", line) from error


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1

    def commands(self) -> list[Command]:
        commands = []
        self._take(_BETWEEN)
        while self._at < len(self._text):
            commands.append(self._command())
            self._take(_BETWEEN)
        return commands

    def _command(self) -> Command:
        line = self._line
        word = self._take(_WORD)
        instruction = next((known for known in INSTRUCTIONS if known == word.lower()), None)
        if instruction is None:
            raise ModelfileError(_WRONG_INSTRUCTION, line)
        key = ""
        if instruction == "parameter":
            key = self._take(_WORD)
            if not _PARAMETER.fullmatch(key):
                raise ModelfileError(f"PARAMETER needs a name and a value, not '{key}'", line)
        elif instruction == "message":
            key = self._take(_WORD)
            if key not in MESSAGE_ROLES:
                raise ModelfileError(_WRONG_ROLE, line)
        what = f"{word.upper()} {key}".rstrip()
        if instruction in ("parameter", "message") and self._at_line_end():
            raise ModelfileError(f"unexpected EOF: {what} needs a value", line)
        value = self._value(what, line)
        if instruction in ("from", "adapter") and not value:
            raise ModelfileError(f"{what} needs a value", line)
        return Command(instruction, value, key, line)

    def _value(self, what: str, line: int) -> str:
        mark = self._take(_MARK)
        start = self._at
        closing = _CLOSING[mark].search(self._text, start)
        if closing is None:
            raise ModelfileError(f"unexpected EOF: the quote after {what} is not closed", line)
        self._move_to(closing.end())
        value = self._text[start : closing.start()]
        return value if mark else value.strip()

    def _at_line_end(self) -> bool:
        return _CLOSING[""].match(self._text, self._at) is not None

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        assert match is not None, "every pattern here matches the empty text too"
        self._move_to(match.end())
        return match[1] if pattern.groups else match[0]

    def _move_to(self, position: int) -> None:
        self._line += len(_NEWLINE.findall(self._text, self._at, position))
        self._at = position
