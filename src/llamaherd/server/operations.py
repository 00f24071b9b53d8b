"""What the server can be asked: one table, which the OpenAPI document is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from llamaherd.api import (
    agent_schemas,
    anthropic_replies,
    embeddings,
    gojson,
    openai_replies,
    openai_requests,
    replies,
    requests,
    rerank,
    responses_objects,
    tokenize,
)
from llamaherd.store.progress import Progress

TEXT: Final = "text/plain"
EVENTS: Final = "text/event-stream"
BYTES: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path, with the ``parameters`` in it and those of its ``query``.

    ``body`` reads the request's body, of whose fields ``required`` must be there. ``reply`` is the
    type of the answer, or its media type where that isn't JSON, None where it is empty. ``lines``
    says that it is also sent in lines of ``reply``, ``events`` that it is as server-sent events.
    ``success`` are the statuses of an answer, ``errors`` those of refusals with their reasons.
    """

    method: str
    path: str
    summary: str
    reply: Any = None
    body: gojson.Reader | str | None = None
    required: tuple[str, ...] = ()
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    query: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    lines: bool = False
    events: bool = False
    success: Mapping[int, str] = field(default_factory=lambda: {200: "OK"})
    errors: Mapping[int, str] = field(default_factory=dict)


UNREADABLE: Final = {400: "The request makes no sense, or asks for what can't be."}
NOT_FOUND: Final = {404: "There is no such model."}
READS: Final = {**UNREADABLE, **NOT_FOUND}

LOADS: Final = {
    **READS,
    500: "The model could not be loaded, or its runner died.",
    503: "Too many requests wait, or the server is shutting down.",
}

#: Ollama too answers with 500 to an option of the wrong type and to a template that doesn't parse.
RUNS: Final = {
    **LOADS,
    500: "An option is of the wrong type, the template doesn't parse or fails, the model could not "
    "be loaded, or its runner died.",
}

RANKS: Final = {
    **LOADS,
    500: "The model could not be loaded or computed no numbers, or its runner died.",
}

EMBEDS: Final = {
    **LOADS,
    500: "An option is of the wrong type, the model could not be loaded or computed no numbers, or "
    "its runner died.",
}

#: Ollama too blames itself for what a registry answers, and for what its store can't do.
TRANSFERS: Final = {
    **UNREADABLE,
    500: "The registry refuses, can't be reached or answers what can't be right, or the store "
    "can't be written.",
    503: "The server is shutting down.",
}

_DIGEST: Final = {
    "digest": {"type": "string", "pattern": "^sha256[:-][0-9a-f]{64}$"},
}


_RESPONSE_ID: Final = {"response_id": {"type": "string", "minLength": 1}}
_NO_RESPONSE: Final = {404: "There is no such response, or no longer."}

#: Anthropic's servers have a status of their own for being overloaded.
_ANSWERS_AGENTS: Final = {status: text for status, text in LOADS.items() if status != 503} | {
    529: LOADS[503]
}

_BODIES: Final = {
    **requests.BODIES,
    **embeddings.BODIES,
    **rerank.BODIES,
    **tokenize.BODIES,
    **openai_requests.BODIES,
    **agent_schemas.BODIES,
}


def _post(path: str, summary: str, reply: Any, **more: Any) -> Operation:
    return Operation("post", path, summary, reply, _BODIES[path], **more)


OPERATIONS: Final = (
    _post(
        "/api/generate",
        "Write on from a prompt; without one, only load or unload the model.",
        replies.GenerateReply,
        required=("model",),
        lines=True,
        errors=RUNS,
    ),
    _post(
        "/api/chat",
        "Answer a conversation; without messages, only load or unload the model.",
        replies.ChatReply,
        required=("model",),
        lines=True,
        errors=RUNS,
    ),
    _post(
        "/api/embed",
        "A vector for each text; without any, only load the model.",
        embeddings.EmbedReply,
        required=("model",),
        errors=EMBEDS,
    ),
    _post(
        "/api/embeddings",
        "The vector of one text, as the model made it.",
        embeddings.EmbeddingsReply,
        required=("model",),
        errors=EMBEDS,
    ),
    _post(
        "/api/rerank",
        "Documents in the order in which they answer a query.",
        rerank.RerankReply,
        required=("model", "query", "documents"),
        errors=RANKS,
    ),
    _post(
        "/api/tokenize",
        "The tokens of a text.",
        tokenize.TokenizeReply,
        required=("model",),
        errors=LOADS,
    ),
    _post(
        "/api/detokenize",
        "The text of tokens.",
        tokenize.DetokenizeReply,
        required=("model", "tokens"),
        errors=LOADS,
    ),
    Operation("get", "/api/tags", "The models of the store.", replies.ModelList),
    Operation("get", "/api/ps", "The models in memory.", replies.RunningModelList),
    _post(
        "/api/show",
        "All that is known of a model.",
        replies.ShownModel,
        required=("model",),
        errors=READS,
    ),
    _post(
        "/api/copy",
        "Give a model a second name.",
        None,
        required=("source", "destination"),
        errors=READS,
    ),
    Operation(
        "delete",
        "/api/delete",
        "Take a name away, and the blobs that no other name needs.",
        body=_BODIES["/api/delete"],
        required=("model",),
        errors=READS,
    ),
    _post(
        "/api/create",
        "Make a model of another one or of files.",
        Progress,
        required=("model",),
        lines=True,
        errors={
            **TRANSFERS,
            404: "A blob or a model that it is to be made of isn't there.",
        },
    ),
    _post(
        "/api/pull",
        "Fetch a model from its registry.",
        Progress,
        required=("model",),
        lines=True,
        errors=TRANSFERS,
    ),
    _post(
        "/api/push",
        "Send a model to its registry.",
        Progress,
        required=("model",),
        lines=True,
        errors=TRANSFERS,
    ),
    Operation(
        "head",
        "/api/blobs/{digest}",
        "Whether a blob is there.",
        parameters=_DIGEST,
        success={200: "It is there."},
        errors={**UNREADABLE, 404: "It is not."},
    ),
    Operation(
        "post",
        "/api/blobs/{digest}",
        "Upload a blob.",
        body=BYTES,
        parameters=_DIGEST,
        success={201: "It was written.", 200: "It was there."},
        errors=UNREADABLE,
    ),
    Operation(
        "get", "/api/version", "The versions of Ollama's API and of the server.", replies.Version
    ),
    _post(
        "/v1/chat/completions",
        "OpenAI: answer a conversation.",
        openai_replies.Reply,
        required=("model", "messages"),
        events=True,
        errors=LOADS,
    ),
    _post(
        "/v1/completions",
        "OpenAI: write on from prompts.",
        openai_replies.Reply,
        required=("model", "prompt"),
        events=True,
        errors=LOADS,
    ),
    _post(
        "/v1/embeddings",
        "OpenAI: a vector for each input.",
        embeddings.OpenAIEmbeddingList,
        required=("model", "input"),
        errors=LOADS,
    ),
    _post(
        "/v1/rerank",
        "Jina and Cohere: documents in the order in which they answer a query.",
        rerank.OpenRerankReply,
        required=("model", "query", "documents"),
        errors=RANKS,
    ),
    Operation(
        "get",
        "/v1/models",
        "OpenAI, or Anthropic if a header anthropic-version is there: the models of the store.",
        openai_replies.ModelList | anthropic_replies.ModelPage,
    ),
    Operation(
        "get",
        "/v1/models/{model}",
        "OpenAI, or Anthropic if a header anthropic-version is there: one model.",
        openai_replies.Model | anthropic_replies.ModelInfo,
        parameters={"model": {"type": "string", "minLength": 1}},
        errors=NOT_FOUND,
    ),
    _post(
        "/v1/responses",
        "OpenAI: respond to a conversation.",
        responses_objects.Response,
        required=("model",),
        events=True,
        errors=LOADS,
    ),
    _post(
        "/v1/responses/input_tokens",
        "OpenAI: the size of a conversation.",
        responses_objects.InputTokens,
        required=("model",),
        errors=LOADS,
    ),
    Operation(
        "get",
        "/v1/responses/{response_id}",
        "OpenAI: a response that was stored.",
        responses_objects.Response,
        parameters=_RESPONSE_ID,
        errors={**UNREADABLE, **_NO_RESPONSE},
    ),
    Operation(
        "get",
        "/v1/responses/{response_id}/input_items",
        "OpenAI: what a response that was stored answers.",
        responses_objects.ItemList,
        parameters=_RESPONSE_ID,
        query={
            "limit": {"type": "integer", "minimum": 1, "maximum": 100},
            "order": {"enum": ["asc", "desc"]},
            "after": {"type": "string"},
        },
        errors={**UNREADABLE, **_NO_RESPONSE},
    ),
    Operation(
        "delete",
        "/v1/responses/{response_id}",
        "OpenAI: forget a response.",
        responses_objects.DeletedResponse,
        parameters=_RESPONSE_ID,
        errors=_NO_RESPONSE,
    ),
    _post(
        "/v1/messages",
        "Anthropic: answer a conversation.",
        anthropic_replies.Message,
        required=("model", "max_tokens", "messages"),
        events=True,
        errors=_ANSWERS_AGENTS,
    ),
    _post(
        "/v1/messages/count_tokens",
        "Anthropic: the size of a conversation.",
        anthropic_replies.TokenCount,
        required=("model", "messages"),
        errors=_ANSWERS_AGENTS,
    ),
    Operation("get", "/", "Whether the server runs.", TEXT),
    Operation("get", "/metrics", "Figures for Prometheus.", TEXT),
    Operation("get", "/openapi.json", "This document.", dict[str, Any]),
)
