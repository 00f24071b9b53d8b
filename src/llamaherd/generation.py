"""One request from its name to its last token: resolve, render, acquire, stream."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Final

import msgspec

from llamaherd.api.replies import DebugInfo
from llamaherd.api.requests import ChatRequest, GenerateRequest
from llamaherd.catalog import Catalog, CatalogModel
from llamaherd.errors import BadRequest, ContextExceeded, PromptError, Unsupported
from llamaherd.events import Done, Event, Stats, Text, Thinking
from llamaherd.formats import grammar_of
from llamaherd.grammar import Form
from llamaherd.messages import Tool, ToolChoice
from llamaherd.prompt.attribution import Attribution
from llamaherd.prompt.builder import Building, Prompt, chat_prompt, generate_prompt
from llamaherd.prompt.replies import ReplyParser, is_plain, reply_parser
from llamaherd.prompt.reply_forms import offered_tools, reply_form
from llamaherd.prompt.template import GoTemplate, PromptTemplate, Think
from llamaherd.runner.process import Generation as RunnerGeneration
from llamaherd.runner.process import Runner
from llamaherd.runner.protocol import Chunk, Finished, Sampling
from llamaherd.scheduler.loop import Grant, Scheduler
from llamaherd.telemetry import Generated, Observer, TextBegan, unobserved

log = logging.getLogger(__name__)

#: A longer text, in bytes of UTF-8, isn't tokenized: no context could hold it, and with a token for
#: each byte the runner's answer would be longer than it may be (``child.LONGEST_ANSWER``).
LONGEST_TEXT: Final = 12 << 20

#: The options that go to the sampler as they are.
_SAMPLING: Final = tuple(name for name in Sampling.__struct_fields__ if name != "logit_bias")


class Generation:
    """Runs the requests of every dialect."""

    def __init__(
        self, catalog: Catalog, scheduler: Scheduler, observe: Observer = unobserved
    ) -> None:
        self._catalog = catalog
        self._scheduler = scheduler
        self._observe = observe

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        """The events of ``/api/generate``; an empty prompt only loads or unloads the model."""
        started = time.perf_counter_ns()
        model = await self._find(request.model)
        _check_generate(model, request)
        if not request.prompt and request.keep_alive == 0:
            await self._scheduler.unload(model.key, model.name.short)
            yield Done("unload")
            return
        options = model.options(request.options)
        async with self._acquire(model, options, request.keep_alive) as grant:
            if not request.prompt:
                yield Done("load")
                return
            template = await _template(model, request)
            limit = _limit(request, grant)
            building = _generate_building(model, request, template, limit)
            prompt, tokens = await _build(building, grant.runner)
            parser = None
            form: Form | None = grammar_of(request.format)
            if template or request.think:
                asked = template or model.template
                parser = await _parser(asked, prompt, (), request.think)
                form = await _form(asked, prompt, request)
            start = await grant.runner.opening()
            conversation = [*request.context, *tokens[len(start) :]]
            reading = _Reading(prompt, len(tokens), parser, logprobs=request.logprobs)
            writing = _write(grant, [*start, *conversation], options, request, form)
            async with aclosing(self._observed(writing, model, started)) as messages:
                async for message in messages:
                    for event in reading.events(message):
                        yield event
                    if isinstance(message, Chunk):
                        continue
                    context = [] if request.raw else [*conversation, *message.tokens]
                    yield reading.done(message, grant, started, context)

    async def chat(
        self, request: ChatRequest, prompt_read: Callable[[int], None] = lambda tokens: None
    ) -> AsyncGenerator[Event, None]:
        """The events of ``/api/chat``; without messages it only loads or unloads the model.

        ``prompt_read`` is told how many tokens the prompt has, before the first event.
        """
        started = time.perf_counter_ns()
        model = await self._find(request.model)
        request = _offering(_within_ability(model, request))
        _check_chat(model, request)
        if not request.messages and request.keep_alive == 0:
            await self._scheduler.unload(model.key, model.name.short)
            yield Done("unload")
            return
        options = model.options(request.options)
        async with self._acquire(model, options, request.keep_alive) as grant:
            if not request.messages:
                yield Done("load")
                return
            building = _chat_building(model, request, _limit(request, grant))
            prompt, tokens = await _build(building, grant.runner)
            n_ctx = grant.runner.info.n_ctx
            if len(tokens) > n_ctx and not request.truncate:
                raise ContextExceeded(len(tokens), n_ctx)
            prompt_read(len(tokens))
            parser = await _parser(model.template, prompt, request.tools, request.think)
            form = await _form(model.template, prompt, request)
            reading = _Reading(prompt, len(tokens), parser, logprobs=request.logprobs)
            writing = _write(grant, tokens, options, request, form)
            async with aclosing(self._observed(writing, model, started)) as messages:
                async for message in messages:
                    for event in reading.events(message):
                        yield event
                    if isinstance(message, Finished):
                        yield reading.done(message, grant, started, [])

    async def count_chat(self, request: ChatRequest) -> int:
        """How many tokens the prompt has that ``chat`` would run if it need not fit the context."""
        model = await self._find(request.model)
        request = _within_ability(model, request)
        _check_chat(model, request)
        options = model.options(request.options)
        async with self._acquire(model, options, request.keep_alive) as grant:
            building = _chat_building(model, request, limit=None)
            _, tokens = await _build(building, grant.runner)
            return len(tokens)

    async def detokenize(self, name: str, tokens: list[int]) -> str:
        """The text that tokens of this model stand for; it is loaded for that."""
        model = await self._find(name)
        async with self._acquire(model, model.options({}), None) as grant:
            return await grant.runner.detokenize(tokens)

    async def render_generate(self, request: GenerateRequest) -> DebugInfo:
        """The prompt that ``generate`` would run."""
        model = await self._find(request.model)
        _check_generate(model, request)
        options = model.options(request.options)
        async with self._acquire(model, options, request.keep_alive) as grant:
            template = await _template(model, request)
            building = _generate_building(model, request, template, _limit(request, grant))
            prompt, _ = await _build(building, grant.runner)
            return DebugInfo(prompt.text, len(prompt.images))

    async def render_chat(self, request: ChatRequest) -> DebugInfo:
        """The prompt that ``chat`` would run."""
        model = await self._find(request.model)
        request = _offering(request)
        _check_chat(model, request)
        options = model.options(request.options)
        async with self._acquire(model, options, request.keep_alive) as grant:
            building = _chat_building(model, request, _limit(request, grant))
            prompt, _ = await _build(building, grant.runner)
            return DebugInfo(prompt.text, len(prompt.images))

    async def _observed(
        self, writing: RunnerGeneration, model: CatalogModel, started: int
    ) -> AsyncGenerator[Chunk | Finished, None]:
        """What the runner writes, told to the observer; closing this closes ``writing``."""
        name, has_begun = model.name.short, False
        async with aclosing(writing):
            async for message in writing:
                duration = time.perf_counter_ns() - started
                if isinstance(message, Finished):
                    self._observe(_generated(name, message, duration))
                elif not has_begun:
                    has_begun = True
                    self._observe(TextBegan(name, duration))
                yield message

    async def _find(self, name: str) -> CatalogModel:
        known = self._catalog.known(name)
        return known if known else await asyncio.to_thread(self._catalog.find, name)

    def _acquire(
        self, model: CatalogModel, options: dict[str, Any], keep_alive: int | None
    ) -> AbstractAsyncContextManager[Grant]:
        log.debug("a request waits for %s", model.name.short)
        return self._scheduler.acquire(model.load_spec(options), keep_alive)


def _limit(request: GenerateRequest | ChatRequest, grant: Grant) -> int | None:
    """The tokens that a prompt may have before its oldest messages are dropped."""
    return grant.runner.info.n_ctx if request.truncate else None


def _offering(request: ChatRequest) -> ChatRequest:
    """The request with only those tools that the model is told of."""
    tools = offered_tools(request.tools, request.tool_choice)
    return msgspec.structs.replace(request, tools=tools)


def _within_ability(model: CatalogModel, request: ChatRequest) -> ChatRequest:
    """The request without thinking that is only wanted from models that can."""
    if request.think_if_able and "thinking" not in model.capabilities:
        return msgspec.structs.replace(request, think=None)
    return request


def _check_generate(model: CatalogModel, request: GenerateRequest) -> None:
    model.require("completion", f'"{request.model}" does not support generate')
    if request.raw and (request.template or request.system or request.context):
        raise BadRequest("raw mode does not support template, system, or context")
    if request.suffix:
        model.require("insert")
    if request.think:
        model.require("thinking")
    _check_images(model, request.images)
    grammar_of(request.format)


def _check_chat(model: CatalogModel, request: ChatRequest) -> None:
    model.require("completion", f'"{request.model}" does not support chat')
    if request.tools:
        model.require("tools")
    if request.think:
        model.require("thinking")
    _check_images(model, [image for message in request.messages for image in message.images])
    grammar_of(request.format)


def _check_images(model: CatalogModel, images: Sequence[bytes]) -> None:
    """Ollama drops images that a model can't see without a word; we say so.

    Nothing here encodes images yet, so models that could see them don't get any either.
    """
    if images:
        model.require("vision", f"{model.name.full} does not support images")
        raise Unsupported("images are not supported by this version")


async def _template(model: CatalogModel, request: GenerateRequest) -> PromptTemplate | None:
    """The request's template or the model's; None where the prompt is taken as it is.

    A request's template is parsed in a thread, as that may take a while.
    """
    if request.raw:
        return None
    if request.template:
        return await asyncio.to_thread(GoTemplate, request.template)
    return model.template


def _generate_building(
    model: CatalogModel,
    request: GenerateRequest,
    template: PromptTemplate | None,
    limit: int | None,
) -> Building:
    return generate_prompt(
        template,
        request.prompt,
        # As in Ollama, messages are dropped only from the model's own template.
        limit=None if request.template else limit,
        system=request.system or model.stored.system or "",
        suffix=request.suffix,
        defaults=() if request.context else model.stored.messages,
        images=request.images,
        think=request.think,
    )


def _chat_building(model: CatalogModel, request: ChatRequest, limit: int | None) -> Building:
    return chat_prompt(
        model.template,
        request.messages,
        limit=limit,
        tools=request.tools,
        think=request.think,
        system=model.stored.system or "",
        defaults=model.stored.messages,
    )


async def _build(building: Building, runner: Runner) -> tuple[Prompt, list[int]]:
    """The prompt and its tokens; the builder's questions are answered by the runner.

    Templates come from strangers and may take their time, so they are rendered in a thread. A text
    of more than ``LONGEST_TEXT`` counts as a token for each byte.
    """
    tokens: dict[str, list[int]] = {}
    count: int | None = None
    while True:
        step = await asyncio.to_thread(_advance, building, count)
        text = step if isinstance(step, str) else step.text
        if (size := len(text.encode("utf-8", "replace"))) > LONGEST_TEXT:
            if not isinstance(step, str):
                raise PromptError(f"the prompt has {size} bytes, at most {LONGEST_TEXT} are read")
            count = size
            continue
        if text not in tokens:
            tokens = {text: await runner.tokenize(text)}
        if not isinstance(step, str):
            return step, tokens[text]
        count = len(tokens[text])


def _advance(building: Building, count: int | None) -> str | Prompt:
    """The next text to count, or at last the prompt."""
    try:
        return next(building) if count is None else building.send(count)
    except StopIteration as end:
        prompt: Prompt = end.value
        return prompt


def _write(
    grant: Grant,
    prompt: list[int],
    options: dict[str, Any],
    request: GenerateRequest | ChatRequest,
    form: Form | None,
) -> RunnerGeneration:
    log.debug("runner %d reads a prompt of %d tokens", grant.runner.pid, len(prompt))
    return grant.runner.generate(
        prompt,
        Sampling(**{name: options[name] for name in _SAMPLING}, logit_bias=request.logit_bias),
        num_predict=options["num_predict"],
        num_keep=options["num_keep"],
        stop=options["stop"],
        truncate=request.truncate,
        shift=request.shift,
        grammar=form,
        top_logprobs=request.top_logprobs if request.logprobs else None,
    )


async def _parser(
    template: PromptTemplate, prompt: Prompt, tools: Sequence[Tool], think: Think
) -> ReplyParser | None:
    """What parses the reply, if it is anything but text.

    The template is probed for the forms that it knows, so that happens in a thread too.
    """
    if is_plain(template, tools=tools, think=think):
        return None
    return await asyncio.to_thread(reply_parser, template, prompt.text, tools=tools, think=think)


async def _form(
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


def _generated(model: str, finished: Finished, duration: int) -> Generated:
    return Generated(
        model=model,
        reason=finished.reason,
        prompt_count=finished.prompt_count,
        cached_count=finished.cached_count,
        dropped_count=finished.dropped_count,
        eval_count=finished.eval_count,
        prompt_duration=finished.prompt_duration,
        eval_duration=finished.eval_duration,
        duration=duration,
    )


class _Reading:
    """What the runner's messages about the reply to ``prompt``, of ``count`` tokens, tell."""

    def __init__(
        self, prompt: Prompt, count: int, parser: ReplyParser | None, *, logprobs: bool
    ) -> None:
        self._parser = parser
        self._dropped = max(prompt.whole_count - count, 0)
        self._attribution = Attribution() if logprobs and parser else None
        self._thinking_count = 0
        self._unassigned = 0

    def events(self, message: Chunk | Finished) -> Sequence[Event]:
        if self._parser is None:
            if isinstance(message, Finished):
                return ()
            return (Text(message.text, tuple(message.logprobs)),)
        if isinstance(message, Finished):
            events = self._parser.finish()
            self._assign(0, events)
        else:
            events = self._parser.feed(message.text)
            self._assign(message.count, events)
            if self._attribution:
                self._attribution.add(message.text, message.logprobs)
        return self._attribution.give(events) if self._attribution else events

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
            eval_count=finished.eval_count,
            eval_duration=finished.eval_duration,
        )
        return Done(
            finished.reason,
            stats,
            context,
            stop=finished.stop,
            cached_count=finished.cached_count,
            dropped_count=self._dropped + finished.dropped_count,
            thinking_count=self._thinking_count,
            logprobs=self._attribution.rest() if self._attribution else (),
        )
