"""Arguments of calls that have each its own tags: read by the tool's schema, and written by it.

A parameter that is a text stands there as it is, any other as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from llamaherd.errors import FormatError
from llamaherd.grammar import Exactly, Form, InOrder, OneOf, Until, optional
from llamaherd.prompt.parsers.json_values import decode, read_json
from llamaherd.prompt.parsers.source import SPACE, Malformed, Reading, Source
from llamaherd.prompt.parsers.writing import Parameter, Signature

#: What a name can't have where a tag has it.
_UNFIT: Final = re.compile(r"[<>\"'\s]")

#: With these a schema doesn't tell by itself what its values are.
_COMBINING: Final = frozenset(
    ("anyOf", "oneOf", "allOf", "not", "if", "$ref", "$dynamicRef", "properties", "items")
)

#: What may keep a text from being one of its choices.
_BOUNDING: Final = frozenset(("pattern", "minLength", "maxLength"))


def is_text(schema: Any) -> bool:
    """Whether values of this schema are texts, as far as it tells; if it tells nothing they are."""
    if not isinstance(schema, Mapping):
        return True
    if schema.get("type", "string") != "string" or schema.keys() & _COMBINING:
        return False
    choices = _choices(schema)
    return isinstance(choices, list) and all(isinstance(choice, str) for choice in choices)


def read_value(source: Source, schema: Any, closing: str, *, exact: bool = False) -> Reading[Any]:
    """What stands before ``closing``, which is read too.

    The line breaks next to the tags aren't part of a text, unless it is ``exact``. What should be
    JSON and isn't is a text.
    """
    if not is_text(schema):
        start = source.position
        try:
            yield from source.skip(SPACE)
            value = yield from read_json(source)
            if (yield from source.optional(closing)):
                return value
        except Malformed:
            pass
        source.position = start
    text = yield from source.until(closing)
    if not exact:
        text = text.removeprefix("\n").removesuffix("\n")
    return text if is_text(schema) else _decoded(text)


def _decoded(text: str) -> Any:
    try:
        return decode(text)
    except Malformed:
        return text


def write_parameters(
    signature: Signature,
    tag: Callable[[str, bool], str],
    closing: str,
    after: str = "",
    *,
    lines: bool = False,
    exact: bool = False,
) -> Form:
    """Each parameter as ``tag`` of its name and whether it is a text, its value, ``closing``.

    With ``lines`` a value has lines of its own; ``after`` follows each parameter. ``exact`` is that
    of ``write_text``. Raises ``FormatError`` for what can't be guaranteed of a text that stands as
    it is.
    """
    parts: list[Form] = []
    edge = "\n" if lines else ""
    for parameter in signature.parameters():
        check_name(parameter)
        text = is_text(parameter.schema)
        form = InOrder(
            (
                Exactly(tag(parameter.name, text) + edge),
                write_text(parameter, closing, edge, exact=exact) if text else parameter.value(),
                Exactly(after if text else f"{edge}{closing}{after}"),
            )
        )
        parts.append(form if parameter.required else optional(form))
    return InOrder(tuple(parts))


def check_name(parameter: Parameter) -> None:
    """Raises ``FormatError`` for a name that can't be in a tag."""
    if _UNFIT.search(parameter.name) or not parameter.name:
        raise FormatError(f"{parameter.field}: this name has no place in a tag")


def write_text(
    parameter: Parameter, closing: str, edge: str = "", *, without: str = "", exact: bool = False
) -> Form:
    """A text as it is, with what closes it; its ``format`` is taken for an annotation.

    It doesn't contain ``without``, by default what closes it. Only if it is ``exact`` may it have
    line breaks at its ends where no ``edge`` tells them apart. Raises ``FormatError``.
    """
    schema = parameter.schema
    without = without or closing
    end = f"{edge}{closing}"
    if "enum" in schema or "const" in schema:
        choices = _choices(schema)
        if not choices or (schema.keys() & _BOUNDING) or {"enum", "const"} <= schema.keys():
            raise FormatError(
                f"{parameter.field}: these choices can't be guaranteed in the way this model calls"
                " tools"
            )
        for choice in choices:
            trimmed = choice if edge or exact else choice.strip("\n")
            if without in choice or choice != trimmed:
                raise FormatError(f"{parameter.field}: a value has no place between tags")
        return InOrder((OneOf(tuple(map(Exactly, choices))), Exactly(end)))
    if "pattern" in schema and not parameter.relaxed:
        raise FormatError(
            f"{parameter.field}.pattern: can't be guaranteed in the way this model calls tools"
        )
    least, most = parameter.bounds(schema, "minLength", "maxLength")
    return Until(end, without, least, most, inner=not (edge or exact))


def _choices(schema: Mapping[str, Any]) -> list[str]:
    """The texts that it may be, none for any text."""
    if "const" in schema:
        return [schema["const"]]
    choices: list[str] = schema.get("enum", [])
    return choices
