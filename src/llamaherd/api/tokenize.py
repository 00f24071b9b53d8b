"""``/api/tokenize`` and ``/api/detokenize``: what clients send, and what they are answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct, field

from llamaherd.api import gojson
from llamaherd.api.requests import read_checked_options
from llamaherd.errors import BadRequest

#: What the content to tokenize is called in the patches to Ollama that clients were written for.
_CONTENT_ALIASES: Final = ("text", "prompt")

#: More tokens than any context holds, and few enough for their text to be written in one piece.
MOST_TOKENS: Final = 1 << 20


class TokenizeRequest(Struct):
    """``POST /api/tokenize``, with the names and defaults of llama.cpp's server.

    ``add_special`` puts BOS and EOS where the vocabulary wants them, ``parse_special`` reads the
    text of special tokens as these tokens, ``with_pieces`` asks for the text of each token too.
    """

    model: str = ""
    content: str = ""
    add_special: bool = False
    parse_special: bool = True
    with_pieces: bool = False
    keep_alive: int | None = None
    options: dict[str, Any] = field(default_factory=dict)


class DetokenizeRequest(Struct):
    """``POST /api/detokenize``: the numbers of tokens of the model's vocabulary."""

    model: str = ""
    tokens: list[int] = field(default_factory=list)
    keep_alive: int | None = None
    options: dict[str, Any] = field(default_factory=dict)


class Piece(Struct):
    """A token with what it adds to a text: bytes as numbers where they are no whole characters."""

    id: int
    piece: str | list[int]


class TokenizeReply(Struct):
    """``/api/tokenize``; durations in nanoseconds."""

    model: str
    tokens: Sequence[int | Piece]
    total_duration: int
    load_duration: int


class DetokenizeReply(Struct):
    """``/api/detokenize``; ``text`` is ``content`` once more, under the name that others have."""

    model: str
    content: str
    text: str
    total_duration: int
    load_duration: int


def piece(token: int, text: bytes) -> Piece:
    try:
        return Piece(token, text.decode())
    except UnicodeDecodeError:
        return Piece(token, list(text))


_VOCABULARY: Final[dict[str, gojson.Reader]] = {
    "model": gojson.string,
    "keep_alive": gojson.duration,
    "options": read_checked_options,
}
_TOKENIZE: Final = gojson.object_of(
    {
        **_VOCABULARY,
        **dict.fromkeys(("content", *_CONTENT_ALIASES), gojson.string),
        **dict.fromkeys(("add_special", "parse_special", "with_pieces"), gojson.boolean),
    },
    "api.TokenizeRequest",
)
_DETOKENIZE: Final = gojson.object_of(
    {**_VOCABULARY, "tokens": gojson.list_of(gojson.integer, "int")}, "api.DetokenizeRequest"
)


def read_tokenize(body: bytes) -> TokenizeRequest:
    given = _TOKENIZE(gojson.parse_body(body), "")
    for alias in _CONTENT_ALIASES:
        content = given.pop(alias, "")
        given["content"] = given.get("content") or content
    return TokenizeRequest(**given)


def read_detokenize(body: bytes) -> DetokenizeRequest:
    wanted = DetokenizeRequest(**_DETOKENIZE(gojson.parse_body(body), ""))
    if (count := len(wanted.tokens)) > MOST_TOKENS:
        raise BadRequest(f"tokens: {count} were sent, at most {MOST_TOKENS} are read")
    return wanted


#: What reads the body of each path, to describe it.
BODIES: Final[dict[str, gojson.Reader]] = {
    "/api/tokenize": _TOKENIZE,
    "/api/detokenize": _DETOKENIZE,
}
