"""What Anthropic's API answers: events as messages, whole or as events of its own, and errors."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from llamaherd.api.anthropic_requests import MessagesRequest, ThreadUnsupported
from llamaherd.events import Done, Event, Text, Thinking, ToolCalls
from llamaherd.messages import ToolCall

StopReason = Literal[
    "end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"
]

# --- the message ----------------------------------------------------------------------------


class TextBlock(Struct, tag_field="type", tag="text"):
    text: str


class ThinkingBlock(Struct, tag_field="type", tag="thinking"):
    """``signature`` is a digest of the thoughts: clients keep it, and nobody here asks for it."""

    thinking: str
    signature: str


class ToolUseBlock(Struct, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


Block = TextBlock | ThinkingBlock | ToolUseBlock


class OutputTokensDetails(Struct):
    thinking_tokens: int


class Usage(Struct):
    """In tokens. The prompt is the sum of the three kinds of input."""

    input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens: int = 0
    output_tokens_details: OutputTokensDetails | UnsetType = UNSET


class Message(Struct, tag_field="type", tag="message"):
    id: str
    model: str
    role: str = "assistant"
    content: list[Block] = field(default_factory=list)
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    usage: Usage = field(default_factory=Usage)


class TokenCount(Struct):
    """The size of a prompt."""

    input_tokens: int


class ModelInfo(Struct, tag_field="type", tag="model"):
    """A model of the store; ``created_at`` is when it last changed."""

    id: str
    created_at: str
    display_name: str
    lifecycle: str = "active"


class ModelPage(Struct):
    """Some of the models; the ids of the first and the last are null where there is none."""

    data: Sequence[ModelInfo]
    has_more: bool
    first_id: str | None
    last_id: str | None


# --- events of a stream ---------------------------------------------------------------------


class MessageStart(Struct, tag_field="type", tag="message_start"):
    message: Message


class ContentBlockStart(Struct, tag_field="type", tag="content_block_start"):
    index: int
    content_block: Block


class TextDelta(Struct, tag_field="type", tag="text_delta"):
    text: str


class ThinkingDelta(Struct, tag_field="type", tag="thinking_delta"):
    thinking: str


class SignatureDelta(Struct, tag_field="type", tag="signature_delta"):
    signature: str


class InputJsonDelta(Struct, tag_field="type", tag="input_json_delta"):
    partial_json: str


class ContentBlockDelta(Struct, tag_field="type", tag="content_block_delta"):
    index: int
    delta: TextDelta | ThinkingDelta | SignatureDelta | InputJsonDelta


class ContentBlockStop(Struct, tag_field="type", tag="content_block_stop"):
    index: int


class StopDelta(Struct):
    stop_reason: StopReason | None
    stop_sequence: str | None


class MessageDelta(Struct, tag_field="type", tag="message_delta"):
    delta: StopDelta
    usage: Usage


class MessageStop(Struct, tag_field="type", tag="message_stop"):
    pass


class Ping(Struct, tag_field="type", tag="ping"):
    pass


StreamEvent = (
    MessageStart
    | Ping
    | ContentBlockStart
    | ContentBlockDelta
    | ContentBlockStop
    | MessageDelta
    | MessageStop
)


def name_of(event: StreamEvent) -> str:
    """The name of a server-sent event, which is that of its type."""
    return str(event.__struct_config__.tag)


class Reply:
    """The reply to one request while it comes, event by event."""

    def __init__(self, request: MessagesRequest) -> None:
        self._request = request
        self._message = Message(f"msg_{secrets.token_hex(12)}", request.chat.model)
        self._begun = False
        self._open: Text | Thinking | None = None
        self._pieces: list[str] = []

    def prompt_read(self, tokens: int) -> None:
        """The size of the prompt, which a stream tells at its start."""
        self._message.usage.input_tokens = tokens

    def whole(self, events: Iterable[Event]) -> Message:
        """All events as the one message of a request that doesn't stream."""
        for event in events:
            for _ in self.stream(event):
                pass
        return self._message

    def stream(self, event: Event) -> Iterator[StreamEvent]:
        """What an event tells a client that streams."""
        if not self._begun:
            self._begun = True
            yield MessageStart(msgspec.structs.replace(self._message, content=[]))
            yield Ping()
        match event:
            case Text("") | Thinking(""):
                pass
            case Text(text):
                yield from self._enter(event)
                self._pieces.append(text)
                yield self._delta(TextDelta(text))
            case Thinking(text):
                yield from self._enter(event)
                if self._request.show_thinking:
                    self._pieces.append(text)
                    yield self._delta(ThinkingDelta(text))
            case ToolCalls(calls):
                yield from self._leave()
                for call in calls:
                    yield from self._call(call)
            case Done():
                yield from self._leave()
                yield self._finish(event)
                yield MessageStop()

    def _enter(self, event: Text | Thinking) -> Iterator[StreamEvent]:
        """Begin a block unless the one that is open goes on."""
        if type(event) is type(self._open):
            return
        yield from self._leave()
        self._open = event
        block = TextBlock("") if isinstance(event, Text) else ThinkingBlock("", "")
        yield ContentBlockStart(len(self._message.content), block)

    def _leave(self) -> Iterator[StreamEvent]:
        """End the block that is open."""
        text = "".join(self._pieces)
        self._pieces.clear()
        match self._open:
            case None:
                return
            case Text():
                yield from self._close(TextBlock(text))
            case Thinking():
                signature = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
                yield self._delta(SignatureDelta(signature))
                yield from self._close(ThinkingBlock(text, signature))
        self._open = None

    def _call(self, call: ToolCall) -> Iterator[StreamEvent]:
        block = ToolUseBlock(
            call.id or f"toolu_{secrets.token_hex(12)}",
            call.function.name,
            call.function.arguments,
        )
        yield ContentBlockStart(
            len(self._message.content), ToolUseBlock(block.id, block.name, input={})
        )
        yield self._delta(InputJsonDelta(msgspec.json.encode(block.input).decode()))
        yield from self._close(block)

    def _delta(
        self, delta: TextDelta | ThinkingDelta | SignatureDelta | InputJsonDelta
    ) -> ContentBlockDelta:
        return ContentBlockDelta(len(self._message.content), delta)

    def _close(self, block: Block) -> Iterator[StreamEvent]:
        yield ContentBlockStop(len(self._message.content))
        self._message.content.append(block)

    def _finish(self, done: Done) -> MessageDelta:
        message = self._message
        message.stop_reason = self._stop_reason(done)
        message.stop_sequence = done.stop if message.stop_reason == "stop_sequence" else None
        if done.stats is not None:
            message.usage = Usage(
                input_tokens=done.stats.prompt_eval_count - done.cached_count,
                cache_read_input_tokens=done.cached_count,
                output_tokens=done.stats.eval_count,
            )
        if done.thinking_count:
            message.usage.output_tokens_details = OutputTokensDetails(done.thinking_count)
        return MessageDelta(StopDelta(message.stop_reason, message.stop_sequence), message.usage)

    def _stop_reason(self, done: Done) -> StopReason:
        """Stop strings of the model's own, unlike those of the request, are ends like any other."""
        if any(isinstance(block, ToolUseBlock) for block in self._message.content):
            return "tool_use"
        if done.reason == "length":
            written = done.stats.eval_count if done.stats else 0
            cut = written >= self._request.max_tokens
            return "max_tokens" if cut else "model_context_window_exceeded"
        return "stop_sequence" if done.stop in self._request.stops else "end_turn"


# --- errors ---------------------------------------------------------------------------------

_ERROR_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}

#: Anthropic's own status for servers that are overloaded for a while; clients try again.
OVERLOADED: Final = 529


def status_of(status: int) -> int:
    """The status with which Anthropic answers what others answer with ``status``."""
    return OVERLOADED if status == 503 else status


class ErrorBody(Struct, omit_defaults=True):
    type: str
    message: str
    details: Mapping[str, Any] | None = None


class ErrorReply(Struct, tag_field="type", tag="error"):
    """The body of an error, and in a stream the data of the event ``error``."""

    error: ErrorBody
    request_id: str


def error_object(
    message: str, status: int, request_id: str, *, details: Mapping[str, Any] | None = None
) -> ErrorReply:
    """What a client is told; ``details`` tell programs what the message tells people."""
    kind = _ERROR_TYPES.get(status_of(status), "api_error")
    return ErrorReply(ErrorBody(kind, message, details), request_id)


def details_of(error: Exception) -> Mapping[str, Any] | None:
    """The ``details`` by which clients know an error, if it is one that they know."""
    if isinstance(error, ThreadUnsupported):
        return {"error_code": "thread_unsupported_request", "unsupported": []}
    return None
