"""Events as a response of OpenAI's Responses API, whole or as events of its own."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from llamaherd.api.logprobs import chat_logprobs, delta_logprobs, spelling
from llamaherd.api.responses_items import carried
from llamaherd.api.responses_objects import (
    CustomToolCall,
    FunctionCall,
    IncompleteDetails,
    InputTokensDetails,
    Item,
    ItemStatus,
    OutputMessage,
    OutputText,
    OutputTokensDetails,
    ReasoningItem,
    Response,
    ResponseError,
    SummaryText,
    Usage,
    new_id,
)
from llamaherd.api.responses_requests import ResponseRequest
from llamaherd.api.responses_tools import custom_input
from llamaherd.events import Done, Event, Text, Thinking, ToolCalls, WrittenToken
from llamaherd.messages import ToolCall

#: An event of the stream; its ``type`` is the name of the server-sent event.
StreamEvent = Mapping[str, Any]

_TEXT: Final = "response.output_text"
_SUMMARY: Final = "response.reasoning_summary_text"


class Reply:
    """The reply to one request while it comes, event by event; ``response`` is what there is."""

    def __init__(self, request: ResponseRequest) -> None:
        self._toolset = request.toolset
        self._carries_thoughts = request.carries_thoughts
        self._output: list[Item] = []
        self.response: Final = msgspec.structs.replace(
            request.blank,
            id=new_id("resp"),
            created_at=int(time.time()),
            output=self._output,
        )
        self._sequence = 0
        self._open: OutputMessage | ReasoningItem | None = None
        self._pieces: list[str] = []
        self._tokens: list[WrittenToken] = []

    def whole(self, events: Iterable[Event]) -> Response:
        """All events as the one response of a request that doesn't stream."""
        for event in events:
            for _ in self.stream(event):
                pass
        return self.response

    def stream(self, event: Event) -> Iterator[StreamEvent]:
        """What an event tells a client that streams."""
        if self._sequence == 0:
            yield self._lifecycle("response.created")
            yield self._lifecycle("response.in_progress")
        match event:
            case Text("") | Thinking(""):
                pass
            case Text(text):
                if not isinstance(self._open, OutputMessage):
                    yield from self._leave("completed")
                    yield from self._enter(OutputMessage(new_id("msg"), "in_progress", []))
                tokens = spelling(text, event.logprobs)
                self._tokens += tokens
                yield self._delta(_TEXT, text, content_index=0, logprobs=delta_logprobs(tokens))
            case Thinking(text):
                if not isinstance(self._open, ReasoningItem):
                    yield from self._leave("completed")
                    yield from self._enter(ReasoningItem(new_id("rs"), "in_progress", []))
                yield self._delta(_SUMMARY, text, summary_index=0)
            case ToolCalls(calls):
                yield from self._leave("completed")
                for call in calls:
                    yield from self._call(call)
            case Done():
                yield from self._leave("incomplete" if event.reason == "length" else "completed")
                yield self._finish(event)

    def failed(self, message: str, code: str = "server_error") -> StreamEvent:
        """The last event of a stream that breaks off."""
        self.response.status = "failed"
        self.response.error = ResponseError(code, message)
        return self._lifecycle("response.failed")

    def _event(self, kind: str, **fields: Any) -> StreamEvent:
        number = self._sequence
        self._sequence += 1
        return {"type": kind, "sequence_number": number, **fields}

    def _lifecycle(self, kind: str) -> StreamEvent:
        response = msgspec.structs.replace(self.response, output=tuple(self._output))
        return self._event(kind, response=response)

    def _item(self, kind: str, item: Item) -> StreamEvent:
        kind = f"response.output_item.{kind}"
        return self._event(kind, output_index=len(self._output), item=item)

    def _of_item(self, kind: str, item: Item, **fields: Any) -> StreamEvent:
        return self._event(kind, item_id=item.id, output_index=len(self._output), **fields)

    def _delta(self, kind: str, text: str, **fields: Any) -> StreamEvent:
        assert self._open is not None, "a delta goes to an item"
        self._pieces.append(text)
        return self._of_item(f"{kind}.delta", self._open, delta=text, **fields)

    def _enter(self, item: OutputMessage | ReasoningItem) -> Iterator[StreamEvent]:
        """Begin an item that comes piece by piece."""
        self._open = item
        yield self._item("added", item)
        yield self._part("added", item)

    def _leave(self, status: ItemStatus) -> Iterator[StreamEvent]:
        """End the item that is open."""
        text, tokens = "".join(self._pieces), self._tokens
        self._pieces.clear()
        self._tokens = []
        done: OutputMessage | ReasoningItem
        match self._open:
            case None:
                return
            case OutputMessage(id=item_id):
                part = OutputText(text, logprobs=chat_logprobs(tokens).content)
                done = OutputMessage(item_id, status, [part])
                told = delta_logprobs(tokens)
                yield self._of_item(
                    f"{_TEXT}.done", done, content_index=0, text=text, logprobs=told
                )
            case ReasoningItem(id=item_id):
                kept = carried(text) if self._carries_thoughts else UNSET
                done = ReasoningItem(item_id, status, [SummaryText(text)], kept)
                yield self._of_item(f"{_SUMMARY}.done", done, summary_index=0, text=text)
        yield self._part("done", done)
        yield from self._close(done)
        self._open = None

    def _part(self, kind: str, item: OutputMessage | ReasoningItem) -> StreamEvent:
        """Messages and reasoning have one part each, which is empty where it isn't there yet."""
        if isinstance(item, OutputMessage):
            (text,) = item.content or [OutputText("")]
            return self._of_item(f"response.content_part.{kind}", item, content_index=0, part=text)
        (summary,) = item.summary or [SummaryText("")]
        kind = f"response.reasoning_summary_part.{kind}"
        return self._of_item(kind, item, summary_index=0, part=summary)

    def _close(self, item: Item) -> Iterator[StreamEvent]:
        yield self._item("done", item)
        self._output.append(item)

    def _call(self, call: ToolCall) -> Iterator[StreamEvent]:
        call_id = call.id or new_id("call")
        name, arguments = call.function.name, call.function.arguments
        offer = self._toolset.offer(name)
        namespace: str | UnsetType = UNSET
        if offer is not None:
            name = offer.name
            namespace = offer.namespace or UNSET
        if offer is not None and offer.kind == "custom":
            text = custom_input(arguments)
            begun = CustomToolCall(new_id("ctc"), "in_progress", call_id, name, "", namespace)
            yield self._item("added", begun)
            kind = "response.custom_tool_call_input"
            yield self._of_item(f"{kind}.delta", begun, delta=text)
            yield self._of_item(f"{kind}.done", begun, input=text)
            yield from self._close(msgspec.structs.replace(begun, status="completed", input=text))
        else:
            text = msgspec.json.encode(arguments).decode()
            called = FunctionCall(new_id("fc"), "in_progress", call_id, name, "", namespace)
            yield self._item("added", called)
            kind = "response.function_call_arguments"
            yield self._of_item(f"{kind}.delta", called, delta=text)
            yield self._of_item(f"{kind}.done", called, name=name, arguments=text)
            yield from self._close(
                msgspec.structs.replace(called, status="completed", arguments=text)
            )

    def _finish(self, done: Done) -> StreamEvent:
        response = self.response
        if done.stats is not None:
            prompt, written = done.stats.prompt_eval_count, done.stats.eval_count
            response.usage = Usage(
                input_tokens=prompt,
                input_tokens_details=InputTokensDetails(
                    done.cached_count, dropped_tokens=done.dropped_count or UNSET
                ),
                output_tokens=written,
                output_tokens_details=OutputTokensDetails(done.thinking_count),
                total_tokens=prompt + written,
            )
        if done.reason == "length":
            response.status = "incomplete"
            response.incomplete_details = IncompleteDetails("max_output_tokens")
            return self._lifecycle("response.incomplete")
        response.status = "completed"
        response.completed_at = int(time.time())
        return self._lifecycle("response.completed")
