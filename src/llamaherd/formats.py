"""What ``format`` asks of a reply."""

from __future__ import annotations

import json
from typing import Any, Final

from llamaherd.errors import FormatError
from llamaherd.grammar import Grammar

#: The largest schema or grammar, in bytes: compiling one takes up to seconds.
MAX_BYTES: Final = 128 << 10


def grammar_of(wanted: Any) -> Grammar | None:
    """What a reply must be: "json", a JSON Schema object or ``{"grammar": text}``.

    None, and as in Ollama "", ask for nothing. Raises ``FormatError`` for anything else; whether a
    schema can be kept is for the runner to say. JSON Schema has no keyword ``grammar``.
    """
    match wanted:
        case None | "":
            return None
        case "json":
            return Grammar("json")
        case {"grammar": text, **others}:
            if others or not isinstance(text, str):
                raise FormatError("invalid format: expected the text of a grammar and nothing else")
            return _bounded(Grammar("grammar", text))
        case dict():
            return _bounded(Grammar("schema", json.dumps(wanted, ensure_ascii=False)))
    raw = json.dumps(wanted, ensure_ascii=False, separators=(",", ":"))
    quoted = json.dumps(raw, ensure_ascii=False)
    raise FormatError(f'invalid format: {quoted}; expected "json" or a valid JSON Schema object')


def _bounded(grammar: Grammar) -> Grammar:
    size = len(grammar.text.encode())
    if size > MAX_BYTES:
        raise FormatError(
            f"invalid format: the {grammar.kind} has {size} bytes, at most {MAX_BYTES} are allowed"
        )
    return grammar
