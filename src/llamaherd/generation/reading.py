"""From what the runner says of a reply to its events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from llamaherd.api.requests import ChatRequest, GenerateRequest
from llamaherd.events import Done, Event, Stats, Text, Thinking, ToolCalls
from llamaherd.formats import grammar_of
from llamaherd.grammar import Form
from llamaherd.messages import Think, Tool, ToolChoice
from llamaherd.prompt.attribution import Attribution
from llamaherd.prompt.builder import Prompt
from llamaherd.prompt.replies import Part, ReplyParser, is_plain, reply_parser
from llamaherd.prompt.reply_forms import reply_form
from llamaherd.prompt.template import PromptTemplate
from llamaherd.runner.protocol import Chunk, Finished
from llamaherd.scheduler.loop import Grant


async def parser_of(
    template: PromptTemplate, prompt: Prompt, tools: Sequence[Tool], think: Think
) -> ReplyParser | None:
    """What parses the reply, if it is anything but text.

    The template is probed for the forms that it knows, so that happens in a thread too.
    """
    if is_plain(template, tools=tools, think=think):
        return None
    return await asyncio.to_thread(reply_parser, template, prompt.text, tools=tools, think=think)


async def form_of(
    template: PromptTemplate, prompt: Prompt, request: GenerateRequest | ChatRequest
) -> Form | None:
    """What the reply must be, if it isn't free."""
    tools: Sequence[Tool] = ()
    choice = ToolChoice()
    if isinstance(request, ChatRequest):
        tools, choice = request.tools, request.tool_choice
    grammar = grammar_of(request.format)
    if grammar is None and choice.mode != "required":
        return None
    return await asyncio.to_thread(
        reply_form,
        template,
        prompt.text,
        tools=tools,
        choice=choice,
        think=request.think,
        grammar=grammar,
    )


class Reading:
    """What the runner's messages about the reply to ``prompt``, of ``count`` tokens, tell.

    Unless calls may be ``parallel``, the reply ends with its first: it is ``complete`` then,
    whatever the runner goes on to write until it is told, and that counts for nothing.
    """

    def __init__(
        self,
        prompt: Prompt,
        count: int,
        parser: ReplyParser | None,
        *,
        logprobs: bool,
        parallel: bool = True,
    ) -> None:
        self.complete = False
        self._parallel = parallel
        self._parser = parser
        self._dropped = max(prompt.whole_count - count, 0)
        self._attribution = Attribution() if logprobs and parser else None
        self._thinking_count = 0
        self._unassigned = 0
        self._eval_count = 0

    def events(self, message: Chunk | Finished) -> Sequence[Event]:
        if self.complete:
            return ()
        self._eval_count = (
            message.eval_count
            if isinstance(message, Finished)
            else self._eval_count + message.count
        )
        if self._parser is None:
            if isinstance(message, Finished):
                return ()
            return (Text(message.text, tuple(message.logprobs)),)
        if isinstance(message, Finished):
            events = self._up_to_one_call(self._parser.finish())
            self._assign(0, events)
        else:
            events = self._up_to_one_call(self._parser.feed(message.text))
            self._assign(message.count, events)
            if self._attribution:
                self._attribution.add(message.text, message.logprobs)
        return self._attribution.give(events) if self._attribution else events

    def _up_to_one_call(self, events: Sequence[Part]) -> Sequence[Part]:
        """The events that belong to the reply."""
        calls = (index for index, event in enumerate(events) if isinstance(event, ToolCalls))
        if self._parallel or (first := next(calls, None)) is None:
            return events
        self.complete = True
        return events[: first + 1]

    def _assign(self, count: int, events: Sequence[Event]) -> None:
        """Count tokens as thinking or not. Those that tell nothing yet belong to what follows."""
        self._unassigned += count
        if events:
            if isinstance(events[0], Thinking):
                self._thinking_count += self._unassigned
            self._unassigned = 0

    def done(self, finished: Finished, grant: Grant, started: int, context: list[int]) -> Done:
        stats = Stats(
            total_duration=time.perf_counter_ns() - started,
            load_duration=grant.load_duration,
            prompt_eval_count=finished.prompt_count,
            prompt_eval_duration=finished.prompt_duration,
            eval_count=self._eval_count,
            eval_duration=finished.eval_duration,
        )
        return Done(
            "stop" if self.complete else finished.reason,
            stats,
            context,
            stop=finished.stop,
            cached_count=finished.cached_count,
            dropped_count=self._dropped + finished.dropped_count,
            thinking_count=self._thinking_count,
            logprobs=self._attribution.rest() if self._attribution else (),
        )
