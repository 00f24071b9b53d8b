"""What a reply must be, said independently of what enforces it.

A form is a small grammar: texts, free text and JSON, in sequence, in choice, again and again. The
server makes one of what a request asks for and of how the model writes; a runner keeps to it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct


class _Form(Struct, frozen=True, tag_field="form", omit_defaults=True):
    pass


class Grammar(_Form, frozen=True, tag="grammar"):
    """What a client asks for, by ``kind``.

    "json" is any JSON object. "schema" is a JSON value that satisfies the JSON Schema in ``text``.
    "grammar" is what the context-free grammar in ``text`` derives, in llguidance's Lark dialect or
    llama.cpp's GBNF.

    ``field`` is the field of the request that it comes from, for errors. What of a ``relaxed``
    schema can't be guaranteed is left to the model; otherwise it is an error.
    """

    kind: Literal["json", "schema", "grammar"]
    text: str = ""
    field: str = "format"
    relaxed: bool = False


class Exactly(_Form, frozen=True, tag="exactly"):
    """This text. A part of it that is a special token of the model's is written as that token."""

    text: str


class Until(_Form, frozen=True, tag="until"):
    """Any text without ``without``, by default ``end``, and then ``end``.

    ``least`` and ``most`` bound the number of the text's characters. With ``inner`` it neither
    begins nor ends with a line break.
    """

    end: str
    without: str = ""
    least: int = 0
    most: int | None = None
    inner: bool = False


class Blank(_Form, frozen=True, tag="blank"):
    """A few spaces and line breaks, or none."""


class InOrder(_Form, frozen=True, tag="in_order"):
    parts: tuple[Form, ...]


class OneOf(_Form, frozen=True, tag="one_of"):
    parts: tuple[Form, ...]


class Repeated(_Form, frozen=True, tag="repeated"):
    """``part``, ``least`` to ``most`` times, with ``separator`` between."""

    part: Form
    least: int
    most: int
    separator: str = ""


Form: TypeAlias = Grammar | Exactly | Until | Blank | InOrder | OneOf | Repeated


def optional(form: Form) -> Form:
    return Repeated(form, 0, 1)
