"""Small trained tokenizers of every kind that we convert, and what they make of some texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parents[1] / "data" / "tokenizers"
RECORDED: Final = FOLDER / "tokens.json"

#: Case, spaces, digits, punctuation, other scripts, what the vocabularies don't have.
TEXTS: Final = [
    "Hello world",
    "  two spaces, then  two more ",
    "Don't stop: I'LL go at 12345.67, you're 1st!!!",
    "naïve café, Ångström ÉCOLE",
    "日本語のテキスト и русский",
    "tabs\tand\n\nnew lines\r\n  end\n",
    "🙂 emoji 👩‍👩‍👧",
    "camelCaseWords HTTPServer snake_case_words",
    "The tokenizer splits (unbelievably) tokenization/detokenization.",
    "a",
]


def recorded() -> dict[str, list[list[int]]]:
    """By tokenizer: the tokens of each of ``TEXTS``, with those put around it."""
    table: dict[str, Any] = json.loads(RECORDED.read_text())
    return table
