"""Requests and answers of ``/api/embed``, ``/api/embeddings`` and ``/v1/embeddings``."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Final, Literal

from msgspec import UNSET, Struct, UnsetType, field

from llamaherd.api import gojson
from llamaherd.api.requests import read_options
from llamaherd.api.tokens import are_tokens
from llamaherd.errors import BadRequest

#: The most inputs that one request may have.
MAX_INPUTS: Final = 1 << 14

_INT32_MAX: Final = 2**31 - 1

Input = str | list[int]
EncodingFormat = Literal["float", "base64"]


class EmbedRequest(Struct):
    """What every dialect asks for; the meanings are those of ``runner.protocol.Embed``.

    ``listed`` tells that the inputs came as a list, so that an error names the one that it is
    about. ``keep_alive`` is in nanoseconds, None for the server's default.
    """

    model: str = ""
    inputs: list[Input] = field(default_factory=list)
    listed: bool = False
    truncate: bool = True
    partial: bool = False
    normalize: bool = True
    dimensions: int = 0
    decimal: bool = True
    options: dict[str, Any] = field(default_factory=dict)
    keep_alive: int | None = None


class OpenAIEmbedRequest(Struct, frozen=True):
    embed: EmbedRequest
    encoding_format: EncodingFormat = "float"


_SHARED: Final[dict[str, gojson.Reader]] = {
    "model": gojson.string,
    "keep_alive": gojson.duration,
    "options": read_options,
}
_EMBED: Final = gojson.object_of(
    {
        **_SHARED,
        "input": gojson.anything,
        "truncate": gojson.boolean,
        "dimensions": gojson.integer,
        "partial": gojson.boolean,
    },
    "api.EmbedRequest",
)
_EMBEDDINGS: Final = gojson.object_of({**_SHARED, "prompt": gojson.string}, "api.EmbeddingRequest")
_OPENAI: Final = gojson.object_of(
    {
        "model": gojson.string,
        "input": gojson.anything,
        "dimensions": gojson.integer,
        "encoding_format": gojson.string,
    },
    "openai.EmbedRequest",
)


def read_embed(body: bytes) -> EmbedRequest:
    """``POST /api/embed``: ``input`` is a text or a list of them; "" is no input."""
    given = _EMBED(gojson.parse_body(body), "")
    _check_dimensions(given)
    match given.pop("input", None):
        case None | "":
            inputs: list[Input] = []
        case str(text):
            inputs = [text]
        case list(texts):
            inputs = _bounded(texts, _is_text, "invalid input type")
            given["listed"] = True
        case _:
            raise BadRequest("invalid input type")
    return EmbedRequest(inputs=inputs, **given)


def read_embeddings(body: bytes) -> EmbedRequest:
    """``POST /api/embeddings``: one text, whose vector comes as the model made it."""
    given = _EMBEDDINGS(gojson.parse_body(body), "")
    prompt = given.pop("prompt", "")
    return EmbedRequest(inputs=[prompt] if prompt else [], normalize=False, decimal=False, **given)


def read_openai(body: bytes) -> OpenAIEmbedRequest:
    """``POST /v1/embeddings``: texts or tokens, one or many; "" is an input like any other."""
    given = _OPENAI(gojson.parse_body(body), "")
    _check_dimensions(given)
    encoding = _encoding_format(given.get("encoding_format", ""))
    value: Any = given.get("input")
    single = isinstance(value, str) or are_tokens(value)
    embed = EmbedRequest(
        model=given.get("model", ""),
        inputs=[value] if single else _openai_inputs(value),
        listed=not single,
        dimensions=given.get("dimensions", 0),
        decimal=encoding == "float",
    )
    return OpenAIEmbedRequest(embed, encoding)


def _encoding_format(given: str) -> EncodingFormat:
    match given.lower():
        case "" | "float":
            return "float"
        case "base64":
            return "base64"
    raise BadRequest(
        f"Invalid value for 'encoding_format' = {given}. Supported values: ['float', 'base64']."
    )


def _openai_inputs(value: Any) -> list[Input]:
    if value is None or value == []:
        raise BadRequest("invalid input")
    wrong = "invalid input type: expected a string, tokens, or an array of strings or of tokens"
    if not isinstance(value, list):
        raise BadRequest(wrong)
    return _bounded(value, lambda item: _is_text(item) or are_tokens(item), wrong)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _bounded(inputs: list[Any], fits: Callable[[Any], bool], wrong: str) -> list[Input]:
    """The inputs if there aren't too many; ``wrong`` is the error of one that doesn't fit."""
    if len(inputs) > MAX_INPUTS:
        raise BadRequest(f"input: at most {MAX_INPUTS} inputs are taken, not {len(inputs)}")
    for index, given in enumerate(inputs):
        if not fits(given):
            raise BadRequest(f"{wrong} (input {index})")
    return inputs


def _check_dimensions(given: dict[str, Any]) -> None:
    dimensions = given.get("dimensions", 0)
    if not 0 <= dimensions <= _INT32_MAX:
        raise BadRequest(f"dimensions must be between 0 and {_INT32_MAX}, not {dimensions}")


# --- answers --------------------------------------------------------------------------------


class InputError(Struct):
    index: int
    error: str


class EmbedReply(Struct):
    """With ``partial``, an input that failed has null for a vector and stands in ``errors``."""

    model: str
    embeddings: list[list[float] | None]
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    errors: list[InputError] | UnsetType = UNSET


class EmbeddingsReply(Struct):
    embedding: list[float]


class OpenAIEmbedding(Struct):
    object: str
    embedding: list[float] | str
    index: int


class OpenAIUsage(Struct):
    prompt_tokens: int
    total_tokens: int


class OpenAIEmbeddingList(Struct):
    object: str
    data: list[OpenAIEmbedding]
    model: str
    usage: OpenAIUsage


def in_base64(vector: bytes) -> str:
    """A vector of little-endian numbers of 4 bytes, as OpenAI's clients read it."""
    return base64.b64encode(vector).decode("ascii")


#: What reads the body of each path, to describe it.
BODIES: Final[dict[str, gojson.Reader]] = {
    "/api/embed": _EMBED,
    "/api/embeddings": _EMBEDDINGS,
    "/v1/embeddings": _OPENAI,
}
