"""What OpenAI's Responses API answers, as it stands on the wire."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

from llamaherd.api.logprobs import Logprob

ItemStatus = Literal["in_progress", "completed", "incomplete"]
ResponseStatus = Literal["in_progress", "completed", "incomplete", "failed"]


def new_id(prefix: str) -> str:
    """An id of its own for a response, an item or a call."""
    return f"{prefix}_{secrets.token_hex(24)}"


class SummaryText(Struct, tag_field="type", tag="summary_text"):
    text: str


class ReasoningItem(Struct, tag_field="type", tag="reasoning"):
    """The model's thoughts; they stand in the summary, where clients look for them.

    ``encrypted_content`` is there for clients that keep the item only with it.
    """

    id: str
    status: ItemStatus
    summary: list[SummaryText]
    encrypted_content: str | UnsetType = UNSET


class OutputText(Struct, tag_field="type", tag="output_text"):
    text: str
    annotations: list[Any] = field(default_factory=list)
    logprobs: list[Logprob] = field(default_factory=list)


class OutputMessage(Struct, tag_field="type", tag="message"):
    id: str
    status: ItemStatus
    content: list[OutputText]
    role: str = "assistant"


class FunctionCall(Struct, tag_field="type", tag="function_call"):
    """``arguments`` is the text of a JSON object."""

    id: str
    status: ItemStatus
    call_id: str
    name: str
    arguments: str
    namespace: str | UnsetType = UNSET


class CustomToolCall(Struct, tag_field="type", tag="custom_tool_call"):
    """``input`` is any text."""

    id: str
    status: ItemStatus
    call_id: str
    name: str
    input: str
    namespace: str | UnsetType = UNSET


Item = ReasoningItem | OutputMessage | FunctionCall | CustomToolCall


class InputTokensDetails(Struct):
    """``dropped_tokens``, ours alone, are those that a prompt lost to fit the context."""

    cached_tokens: int
    cache_write_tokens: int = 0
    dropped_tokens: int | UnsetType = UNSET


class OutputTokensDetails(Struct):
    reasoning_tokens: int


class Usage(Struct):
    """In tokens."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class IncompleteDetails(Struct):
    reason: Literal["max_output_tokens"]


class ResponseError(Struct):
    code: str
    message: str


class ItemList(Struct):
    """A page of items of any type, with the ids of its first and last; null if there is none."""

    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: str = "list"


class DeletedResponse(Struct):
    id: str
    object: str = "response"
    deleted: bool = True


class InputTokens(Struct):
    """The size of a prompt."""

    input_tokens: int
    object: str = "response.input_tokens"


class Response(Struct, kw_only=True):
    """A response; times in seconds since 1970.

    From ``background`` on the fields repeat the request, with the defaults that took effect, and
    ``tools`` are those that the model was offered.
    """

    id: str = ""
    object: str = "response"
    created_at: int = 0
    completed_at: int | None = None
    status: ResponseStatus = "in_progress"
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    model: str
    output: Sequence[Item] = ()
    usage: Usage | None = None
    background: bool = False
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None = None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: dict[str, Any]
    safety_identifier: str | None
    service_tier: str = "default"
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: Any
    tools: list[dict[str, Any]]
    top_logprobs: int = 0
    top_p: float
    truncation: str
    user: str | None
