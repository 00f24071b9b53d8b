"""What Ollama's own API answers: events as the lines of its two dialects."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from llamaherd.api.logprobs import Logprob, ollama_logprobs
from llamaherd.events import Done, Event, Stats, Text, Thinking, ToolCalls, logprobs_of
from llamaherd.messages import ToolCall

_encoder: Final = msgspec.json.Encoder()


def encode(value: Any) -> bytes:
    """Compact JSON with the characters escaped that Go escapes."""
    text = _encoder.encode(value)
    for plain, escaped in _GO_ESCAPES:
        if plain in text:
            text = text.replace(plain, escaped)
    return text


_GO_ESCAPES: Final = (
    (b"<", rb"\u003c"),
    (b">", rb"\u003e"),
    (b"&", rb"\u0026"),
    ("\u2028".encode(), rb"\u2028"),
    ("\u2029".encode(), rb"\u2029"),
)


def timestamp(nanoseconds: int | None = None) -> str:
    """RFC 3339 in UTC with as many digits of the second as it has, as Go prints a time."""
    seconds, fraction = divmod(time.time_ns() if nanoseconds is None else nanoseconds, 10**9)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    digits = f".{fraction:09d}".rstrip("0").rstrip(".")
    return f"{text}{digits}Z"


def format_time(moment: datetime) -> str:
    """``timestamp`` of a datetime, exact to the microsecond that it holds."""
    delta = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    microseconds = (delta.days * 86400 + delta.seconds) * 10**6 + delta.microseconds
    return timestamp(microseconds * 1000)


class ReplyMessage(Struct, omit_defaults=True):
    role: str
    content: str
    thinking: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)


class DebugInfo(Struct, omit_defaults=True):
    """The prompt as the template rendered it, for ``_debug_render_only``."""

    rendered_template: str
    image_count: int = 0


class GenerateReply(Struct):
    """One line of ``/api/generate``; the last one has ``done`` and the figures.

    ``prompt_dropped_count``, ours alone, is how many tokens the prompt lost to fit the context; it
    is there only if it lost some.
    """

    model: str
    created_at: str
    response: str
    thinking: str | UnsetType = UNSET
    done: bool = False
    done_reason: str | UnsetType = UNSET
    context: list[int] | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_dropped_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    debug_info: DebugInfo | UnsetType = field(default=UNSET, name="_debug_info")
    logprobs: list[Logprob] | UnsetType = UNSET


class ChatReply(Struct):
    """One line of ``/api/chat``."""

    model: str
    created_at: str
    message: ReplyMessage
    done_reason: str | UnsetType = UNSET
    done: bool = False
    logprobs: list[Logprob] | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_dropped_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    debug_info: DebugInfo | UnsetType = field(default=UNSET, name="_debug_info")


Reply = GenerateReply | ChatReply


def _finish(reply: Reply, done: Done) -> None:
    reply.done = True
    reply.done_reason = done.reason
    if done.stats is None:
        return
    for name in Stats.__struct_fields__:
        setattr(reply, name, getattr(done.stats, name))
    reply.prompt_dropped_count = done.dropped_count or UNSET


class GenerateDialect:
    """Events as the replies of ``/api/generate``."""

    def __init__(self, model: str) -> None:
        self._model = model

    def reply(self, event: Event) -> GenerateReply:
        reply = GenerateReply(self._model, timestamp(), "")
        match event:
            case Text(text):
                reply.response = text
            case Thinking(text):
                reply.thinking = text
            case ToolCalls():
                raise TypeError("generate has no tool calls")
            case Done():
                if event.context:
                    reply.context = event.context
                _finish(reply, event)
        if event.logprobs:
            reply.logprobs = ollama_logprobs(event.logprobs)
        return reply

    def rendered(self, info: DebugInfo) -> GenerateReply:
        return GenerateReply(self._model, timestamp(), "", debug_info=info)

    def whole(self, events: list[Event]) -> GenerateReply:
        """All events as the one reply of a request that doesn't stream; ends with ``Done``."""
        reply = self.reply(events[-1])
        reply.response = "".join(e.text for e in events if isinstance(e, Text))
        reply.thinking = "".join(e.text for e in events if isinstance(e, Thinking)) or UNSET
        reply.logprobs = ollama_logprobs(logprobs_of(events)) or UNSET
        return reply


class ChatDialect:
    """Events as the replies of ``/api/chat``."""

    def __init__(self, model: str) -> None:
        self._model = model

    def reply(self, event: Event) -> ChatReply:
        reply = ChatReply(self._model, timestamp(), ReplyMessage("assistant", ""))
        match event:
            case Text(text):
                reply.message.content = text
            case Thinking(text):
                reply.message.thinking = text
            case ToolCalls(calls):
                reply.message.tool_calls = calls
            case Done():
                _finish(reply, event)
        if event.logprobs:
            reply.logprobs = ollama_logprobs(event.logprobs)
        return reply

    def rendered(self, info: DebugInfo) -> ChatReply:
        return ChatReply(self._model, timestamp(), ReplyMessage("", ""), debug_info=info)

    def whole(self, events: list[Event]) -> ChatReply:
        reply = self.reply(events[-1])
        reply.message.content = "".join(e.text for e in events if isinstance(e, Text))
        reply.message.thinking = "".join(e.text for e in events if isinstance(e, Thinking))
        reply.message.tool_calls = [c for e in events if isinstance(e, ToolCalls) for c in e.calls]
        reply.logprobs = ollama_logprobs(logprobs_of(events)) or UNSET
        return reply


Dialect = GenerateDialect | ChatDialect


# --- the model library ----------------------------------------------------------------------


class ModelDetails(Struct):
    parent_model: str
    format: str
    family: str
    families: list[str] | None
    parameter_size: str
    quantization_level: str


class ListedModel(Struct):
    """One model of ``/api/tags``; ``digest`` is that of its manifest, in hex."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: ModelDetails


class ModelList(Struct):
    """``/api/tags``."""

    models: list[ListedModel]


class RunningModel(Struct):
    """One model of ``/api/ps``; sizes in bytes, ``context_length`` in tokens."""

    name: str
    model: str
    size: int
    digest: str
    details: ModelDetails
    expires_at: str
    size_vram: int
    context_length: int


class RunningModelList(Struct):
    """``/api/ps``."""

    models: list[RunningModel]


class Version(Struct):
    """``/api/version``: that of the Ollama whose API this is, and our own."""

    version: str
    llamaherd: str


class WireMessage(Struct):
    role: str
    content: str


class ShownModel(Struct):
    """``/api/show``; what a model doesn't have is left out."""

    license: str | UnsetType = UNSET
    modelfile: str | UnsetType = UNSET
    parameters: str | UnsetType = UNSET
    template: str | UnsetType = UNSET
    system: str | UnsetType = UNSET
    details: ModelDetails | UnsetType = UNSET
    messages: list[WireMessage] | UnsetType = UNSET
    model_info: dict[str, Any] | UnsetType = UNSET
    projector_info: dict[str, Any] | UnsetType = UNSET
    tensors: list[dict[str, Any]] | UnsetType = UNSET
    capabilities: list[str] | UnsetType = UNSET
    modified_at: str | UnsetType = UNSET
