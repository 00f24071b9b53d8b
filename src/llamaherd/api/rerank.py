"""Requests and answers of ``/api/rerank`` and ``/v1/rerank``, which are as Jina and Cohere have it.

Ollama has no such interface.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType, field

from llamaherd.api import gojson
from llamaherd.api.requests import read_checked_options
from llamaherd.errors import BadRequest

#: The most documents that one request may have.
MAX_DOCUMENTS: Final = 1 << 14


class RerankRequest(Struct):
    """The ``top_n`` best are answered, all with None; ``return_documents`` sends the texts along.

    ``keep_alive`` is in nanoseconds, None for the server's default.
    """

    model: str
    query: str
    documents: list[str]
    top_n: int | None = None
    return_documents: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    keep_alive: int | None = None


_RERANK: Final = gojson.object_of(
    {
        "model": gojson.string,
        "query": gojson.string,
        "documents": gojson.anything,
        "top_n": gojson.integer,
        "return_documents": gojson.boolean,
        "options": read_checked_options,
        "keep_alive": gojson.duration,
    },
    "api.RerankRequest",
)


def read_rerank(body: bytes) -> RerankRequest:
    given = _RERANK(gojson.parse_body(body), "")
    if not given.get("query"):
        raise BadRequest("query: expected the text that documents are to answer")
    documents = _documents(given.pop("documents", None))
    if "top_n" in given and given["top_n"] < 1:
        raise BadRequest(f"top_n: must be at least 1, not {given['top_n']}")
    return RerankRequest(model=given.pop("model", ""), documents=documents, **given)


def _documents(value: Any) -> list[str]:
    if not isinstance(value, list) or not value:
        raise BadRequest("documents: expected an array of texts or of objects with a text")
    if len(value) > MAX_DOCUMENTS:
        raise BadRequest(f"documents: at most {MAX_DOCUMENTS} are taken, not {len(value)}")
    texts = []
    for index, document in enumerate(value):
        match document:
            case str(text) | {"text": str(text)}:
                texts.append(text)
            case _:
                raise BadRequest(f"documents[{index}]: expected a text or an object with a text")
    return texts


class Document(Struct):
    text: str


class RankedDocument(Struct):
    index: int
    relevance_score: float
    document: Document | UnsetType = UNSET


class RerankReply(Struct):
    model: str
    results: list[RankedDocument]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


class RerankUsage(Struct):
    prompt_tokens: int
    total_tokens: int


class OpenRerankReply(Struct):
    """``POST /v1/rerank``."""

    object: str
    model: str
    results: list[RankedDocument]
    usage: RerankUsage


#: What reads the body of each path, to describe it.
BODIES: Final[dict[str, gojson.Reader]] = {"/api/rerank": _RERANK, "/v1/rerank": _RERANK}
