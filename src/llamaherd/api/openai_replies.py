"""What OpenAI's API answers: events as completions, whole or in chunks, and errors."""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from llamaherd.api.logprobs import ChatLogprobs, TextLogprobs, TextOffsets, chat_logprobs
from llamaherd.events import Done, Echo, Event, Logprobs, Text, Thinking, ToolCalls, logprobs_of
from llamaherd.messages import ToolCall

FINGERPRINT: Final = "fp_ollama"

#: What one of the interfaces is told of a choice: events that end with ``Done``.
Told = TypeVar("Told", bound=Echo | Event)

ErrorKind = Literal["invalid_request_error", "api_error"]


def error_object(
    message: str, kind: ErrorKind, code: str | None = None, *, param: str | None = None
) -> Mapping[str, Any]:
    """As Ollama: an "invalid_request_error" could not be read, all others are an "api_error"."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class PromptTokensDetails(Struct, omit_defaults=True):
    """``cached_tokens`` were known from earlier requests.

    ``dropped_tokens``, ours alone, are those that prompts lost to fit the context; they are not
    among the ``prompt_tokens``.
    """

    cached_tokens: int
    dropped_tokens: int = 0


class CompletionTokensDetails(Struct):
    """``reasoning_tokens`` are those of thinking, with their tags."""

    reasoning_tokens: int


class Usage(Struct):
    """In tokens; the details are left out where there is nothing to tell."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails | UnsetType = UNSET
    completion_tokens_details: CompletionTokensDetails | UnsetType = UNSET


class FunctionCall(Struct):
    """``arguments`` is the text of a JSON object."""

    name: str
    arguments: str


class WireToolCall(Struct):
    """``index`` counts the calls of one reply."""

    id: str
    index: int
    type: str
    function: FunctionCall


class ReplyMessage(Struct):
    """A whole message, or in a chunk what comes to it."""

    role: str = "assistant"
    content: str = ""
    reasoning: str | UnsetType = UNSET
    tool_calls: list[WireToolCall] | UnsetType = UNSET


class ChatChoice(Struct):
    index: int
    message: ReplyMessage
    finish_reason: str | None
    logprobs: ChatLogprobs | UnsetType = UNSET


class ChatChunkChoice(Struct):
    """``prompt_dropped_count``, ours alone, is how many tokens the prompt lost to fit the context.

    It comes with the ``finish_reason``, as few clients ask for the usage of a stream.
    """

    index: int
    delta: ReplyMessage
    finish_reason: str | None
    logprobs: ChatLogprobs | UnsetType = UNSET
    prompt_dropped_count: int | UnsetType = UNSET


class TextChoice(Struct):
    """``prompt_dropped_count`` is as in ``ChatChunkChoice``, and in streams alone."""

    text: str
    index: int
    finish_reason: str | None
    logprobs: TextLogprobs | UnsetType = UNSET
    prompt_dropped_count: int | UnsetType = UNSET


Choice = ChatChoice | ChatChunkChoice | TextChoice


class Reply(Struct):
    """A completion or a chunk of one; ``created`` in seconds since 1970."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: Sequence[Choice]
    usage: Usage | UnsetType = UNSET


class Model(Struct):
    """An entry of ``/v1/models``; ``created`` is when it last changed, in seconds since 1970."""

    id: str
    object: str
    created: int
    owned_by: str


class ModelList(Struct):
    """``/v1/models``."""

    object: str
    data: list[Model]


class Tally:
    """What was spent on all choices: of ``n`` replies to one prompt, the prompt counts once."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._prompt = 0
        self._completion = 0
        self._thinking = 0
        self._cached = 0
        self._dropped = 0

    def add(self, index: int, done: Done) -> None:
        if done.stats is None:
            return
        self._completion += done.stats.eval_count
        self._thinking += done.thinking_count
        if index % self._n == 0:
            self._prompt += done.stats.prompt_eval_count
            self._cached += done.cached_count
            self._dropped += done.dropped_count

    @property
    def usage(self) -> Usage:
        usage = Usage(self._prompt, self._completion, self._prompt + self._completion)
        if self._cached or self._dropped:
            usage.prompt_tokens_details = PromptTokensDetails(self._cached, self._dropped)
        if self._thinking:
            usage.completion_tokens_details = CompletionTokensDetails(self._thinking)
        return usage


class Completions(ABC, Generic[Told]):
    """How one of the two interfaces words the replies to one request."""

    _prefix: ClassVar[str]
    _kind: ClassVar[str]
    _chunk_kind: ClassVar[str]

    def __init__(self, model: str, n: int) -> None:
        self._id = f"{self._prefix}-{secrets.randbelow(10**9)}"
        self._created = int(time.time())
        self._model = model
        self._tally = Tally(n)

    def chunk(self, index: int, event: Told) -> Reply:
        """What comes to choice ``index``."""
        if isinstance(event, Done):
            self._tally.add(index, event)
        return self._reply(self._chunk_kind, [self._part(index, event)])

    def whole(self, choices: Sequence[Sequence[Told]]) -> Reply:
        """All events of every choice as the one reply of a request that doesn't stream."""
        for index, events in enumerate(choices):
            self._tally.add(index, _end(events))
        found = [self._choice(index, events) for index, events in enumerate(self._best(choices))]
        return self._reply(self._kind, found, self._tally.usage)

    def usage(self) -> Reply:
        """The chunk after the last, for ``stream_options.include_usage``."""
        return self._reply(self._chunk_kind, [], self._tally.usage)

    def _reply(
        self, kind: str, choices: Sequence[Choice], usage: Usage | UnsetType = UNSET
    ) -> Reply:
        return Reply(
            self._id, kind, self._created, self._model, FINGERPRINT, choices=choices, usage=usage
        )

    def _finish(self, index: int, done: Done) -> str:
        """The reason for the end. An empty prompt, which only loads the model, ends at once."""
        return "length" if done.reason == "length" else "stop"

    def _best(self, choices: Sequence[Sequence[Told]]) -> Sequence[Sequence[Told]]:
        """Those that are told of."""
        return choices

    @abstractmethod
    def _part(self, index: int, event: Told) -> Choice: ...

    @abstractmethod
    def _choice(self, index: int, events: Sequence[Told]) -> Choice: ...


class ChatCompletions(Completions[Event]):
    """The dialect of ``/v1/chat/completions``."""

    _prefix = "chatcmpl"
    _kind = "chat.completion"
    _chunk_kind = "chat.completion.chunk"

    def __init__(self, model: str, n: int) -> None:
        super().__init__(model, n)
        self._calls: dict[int, int] = {}

    def _part(self, index: int, event: Event) -> Choice:
        delta = ReplyMessage()
        finish_reason = None
        match event:
            case Text(text):
                delta.content = text
            case Thinking(text):
                delta.reasoning = text
            case ToolCalls(calls):
                delta.tool_calls = self._wire_calls(index, calls)
            case Done():
                finish_reason = self._finish(index, event)
        return ChatChunkChoice(
            index, delta, finish_reason, _chat_logprobs(event.logprobs), _dropped(event)
        )

    def _choice(self, index: int, events: Sequence[Event]) -> Choice:
        calls = [call for e in events if isinstance(e, ToolCalls) for call in e.calls]
        message = ReplyMessage(
            content=_text(events),
            reasoning="".join(e.text for e in events if isinstance(e, Thinking)) or UNSET,
            tool_calls=self._wire_calls(index, calls) or UNSET,
        )
        finish_reason = self._finish(index, _end(events))
        return ChatChoice(index, message, finish_reason, _chat_logprobs(logprobs_of(events)))

    def _wire_calls(self, index: int, calls: Sequence[ToolCall]) -> list[WireToolCall]:
        first = self._calls.get(index, 0)
        self._calls[index] = first + len(calls)
        return [_wire_call(number, call) for number, call in enumerate(calls, first)]

    def _finish(self, index: int, done: Done) -> str:
        reason = super()._finish(index, done)
        return "tool_calls" if self._calls.get(index) else reason


class TextCompletions(Completions[Echo | Event]):
    """The dialect of ``/v1/completions``.

    Of each ``best_of`` choices the best ``n`` are told of. ``logprobs`` is how many alternatives
    are told with each token, None tells of no tokens.
    """

    _prefix = "cmpl"
    _kind = _chunk_kind = "text_completion"

    def __init__(
        self, model: str, n: int, *, best_of: int | None = None, logprobs: int | None = None
    ) -> None:
        super().__init__(model, best_of or n)
        self._n = n
        self._best_of = best_of or n
        self._logprobs = logprobs
        self._offsets: dict[int, TextOffsets] = {}

    def _part(self, index: int, event: Echo | Event) -> Choice:
        finish_reason = self._finish(index, event) if isinstance(event, Done) else None
        logprobs = self._tokens(index, [event])
        return TextChoice(_text([event]), index, finish_reason, logprobs, _dropped(event))

    def _choice(self, index: int, events: Sequence[Echo | Event]) -> Choice:
        finish_reason = self._finish(index, _end(events))
        return TextChoice(_text(events), index, finish_reason, self._tokens(index, events))

    def _tokens(self, index: int, events: Sequence[Echo | Event]) -> TextLogprobs | UnsetType:
        if self._logprobs is None:
            return UNSET
        offsets = self._offsets.setdefault(index, TextOffsets())
        parts = [event.tokens if isinstance(event, Echo) else event.logprobs for event in events]
        return offsets.logprobs(parts, with_top=self._logprobs > 0) if any(parts) else UNSET

    def _best(self, choices: Sequence[Sequence[Echo | Event]]) -> Sequence[Sequence[Echo | Event]]:
        if self._best_of == self._n:
            return choices
        groups = (
            choices[start : start + self._best_of]
            for start in range(0, len(choices), self._best_of)
        )
        return [one for group in groups for one in best(group, self._n)]


def best(replies: Sequence[Sequence[Told]], n: int) -> list[Sequence[Told]]:
    """The ``n`` replies whose tokens were the likeliest on average, the best first."""
    return sorted(replies, key=_mean_logprob, reverse=True)[:n]


def _mean_logprob(events: Sequence[Echo | Event]) -> float:
    """Of a reply without any tokens nothing can be said in its favour."""
    written = [event for event in events if not isinstance(event, Echo)]
    logprobs = [token.logprob for token in logprobs_of(written)]
    return sum(logprobs) / len(logprobs) if logprobs else float("-inf")


def _chat_logprobs(tokens: Logprobs) -> ChatLogprobs | UnsetType:
    return chat_logprobs(tokens) if tokens else UNSET


def _dropped(event: Echo | Event) -> int | UnsetType:
    return (isinstance(event, Done) and event.dropped_count) or UNSET


def _text(events: Sequence[Echo | Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, (Echo, Text)))


def _wire_call(number: int, call: ToolCall) -> WireToolCall:
    arguments = msgspec.json.encode(call.function.arguments).decode()
    call_id = call.id or f"call_{secrets.token_hex(4)}"
    return WireToolCall(call_id, number, "function", FunctionCall(call.function.name, arguments))


def _end(events: Sequence[Echo | Event]) -> Done:
    end = events[-1]
    assert isinstance(end, Done)
    return end
