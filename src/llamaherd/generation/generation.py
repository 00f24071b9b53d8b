"""One request from its name to its last token: resolve, render, acquire, stream."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Final

from llamaherd.api.replies import DebugInfo
from llamaherd.api.requests import ChatRequest, GenerateRequest
from llamaherd.catalog import Catalog, CatalogModel
from llamaherd.errors import ContextExceeded
from llamaherd.events import Done, Echo, Event
from llamaherd.formats import grammar_of
from llamaherd.generation.asked import asked_chat, check_context, check_generate
from llamaherd.generation.prompting import (
    build,
    chat_building,
    check_images_fit,
    generate_building,
    template_of,
)
from llamaherd.generation.reading import Reading, form_of, parser_of
from llamaherd.generation.scoring import ScoresOfPrompt, scored_prompt
from llamaherd.grammar import Form
from llamaherd.prompt.builder import Prompt
from llamaherd.runner.generation import Generation as RunnerGeneration
from llamaherd.runner.protocol import Finished, Placed, Sampling
from llamaherd.scheduler.loop import Grant, Scheduler
from llamaherd.telemetry import Generated, Observer, TextBegan, unobserved

log = logging.getLogger(__name__)

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
        """The events of ``/api/generate``; without prompt and images it only loads or unloads."""
        started = time.perf_counter_ns()
        model = await self._find(request.model)
        is_empty = not (request.prompt or request.images)
        if is_empty and request.keep_alive == 0:
            yield await self._unload(model)
            return
        check_generate(model, request)
        options = model.options(request.options)
        async with self._acquire(model, options, request.keep_alive) as grant:
            if is_empty:
                yield Done("load")
                return
            check_context(request.context, grant.runner.info.n_vocab)
            template = await template_of(model, request)
            limit = _limit(request, grant)
            building = generate_building(model, request, template, limit)
            read = await build(building, grant.runner)
            check_images_fit(read, grant.runner.info.n_ctx, truncate=request.truncate)
            prompt = read.prompt
            parser = None
            form: Form | None = grammar_of(request.format)
            if template or request.think:
                asked = template or model.template
                parser = await parser_of(asked, prompt, (), request.think)
                form = await form_of(asked, prompt, request)
            start = await grant.runner.opening()
            conversation = [*request.context, *read.tokens[len(start) :]]
            images = read.images_after(len(request.context))
            reading = Reading(prompt, read.count, parser, logprobs=request.logprobs)
            tokens = [*start, *conversation]
            writing = _write(grant, tokens, options, request, form, images=images)
            reply = self._reply(
                writing, reading, grant, started, model, None if request.raw else conversation
            )
            async with aclosing(reply) as events:
                async for event in events:
                    yield event

    async def score(
        self, request: GenerateRequest, tokens: list[int] | None, scores: ScoresOfPrompt
    ) -> AsyncGenerator[Echo | Event, None]:
        """The prompt with the log-probabilities of its tokens, then the events of the reply.

        The prompt is ``tokens`` if they aren't None. It is read as it is, without the model's
        template, and isn't cut. All replies to it share its ``scores``: the first to ask has them
        computed, the others wait for them.
        """
        started = time.perf_counter_ns()
        known = None if scores.begin() else await scores.all()
        model = await self._find(request.model)
        check_generate(model, request)
        options = model.options(request.options)
        async with self._acquire(model, options, request.keep_alive) as grant:
            prompt = await scored_prompt(request.prompt if tokens is None else tokens, grant.runner)
            form = grammar_of(request.format)
            writing = _write(
                grant,
                prompt.tokens,
                options,
                request,
                form,
                score_prompt=known is None,
                tell_end=True,
            )
            async with aclosing(writing):
                for echo in known or ():
                    yield echo
                if known is None:
                    async for echo in scores.read(prompt, writing):
                        yield echo
                count = len(prompt.tokens)
                reading = Reading(Prompt(prompt.text), count, None, logprobs=True)
                async with aclosing(self._reply(writing, reading, grant, started, model)) as events:
                    async for event in events:
                        yield event

    async def chat(
        self, request: ChatRequest, prompt_read: Callable[[int], None] = lambda tokens: None
    ) -> AsyncGenerator[Event, None]:
        """The events of ``/api/chat``; without messages it only loads or unloads the model.

        ``prompt_read`` is told how many tokens the prompt has, before the first event.
        """
        started = time.perf_counter_ns()
        model = await self._find(request.model)
        if not request.messages and request.keep_alive == 0:
            yield await self._unload(model)
            return
        request = asked_chat(model, request)
        options = model.options(request.options)
        async with self._acquire(model, options, request.keep_alive) as grant:
            if not request.messages:
                yield Done("load")
                return
            building = chat_building(model, request, _limit(request, grant))
            read = await build(building, grant.runner)
            prompt = read.prompt
            n_ctx = grant.runner.info.n_ctx
            if read.count > n_ctx and not request.truncate:
                raise ContextExceeded(read.count, n_ctx)
            check_images_fit(read, n_ctx, truncate=request.truncate)
            prompt_read(read.count)
            parser = await parser_of(model.template, prompt, request.tools, request.think)
            form = await form_of(model.template, prompt, request)
            reading = Reading(
                prompt,
                read.count,
                parser,
                logprobs=request.logprobs,
                parallel=request.tool_choice.parallel,
            )
            writing = _write(grant, read.tokens, options, request, form, images=read.images)
            reply = self._reply(writing, reading, grant, started, model)
            async with aclosing(reply) as events:
                async for event in events:
                    yield event

    async def count_chat(self, request: ChatRequest) -> int:
        """How many tokens the prompt has that ``chat`` would run if it need not fit the context."""
        model = await self._find(request.model)
        request = asked_chat(model, request)
        options = model.options(request.options)
        async with self._acquire(model, options, request.keep_alive) as grant:
            building = chat_building(model, request, limit=None)
            return (await build(building, grant.runner)).count

    async def detokenize(self, name: str, tokens: list[int]) -> str:
        """The text that tokens of this model stand for; it is loaded for that."""
        model = await self._find(name)
        async with self._acquire(model, model.options({}), None) as grant:
            return await grant.runner.detokenize(tokens)

    async def render_generate(self, request: GenerateRequest) -> DebugInfo:
        """The prompt that ``generate`` would run."""
        model = await self._find(request.model)
        check_generate(model, request)
        options = model.options(request.options)
        async with self._acquire(model, options, request.keep_alive) as grant:
            template = await template_of(model, request)
            building = generate_building(model, request, template, _limit(request, grant))
            prompt = (await build(building, grant.runner)).prompt
            return DebugInfo(prompt.text, len(prompt.images))

    async def render_chat(self, request: ChatRequest) -> DebugInfo:
        """The prompt that ``chat`` would run."""
        model = await self._find(request.model)
        request = asked_chat(model, request)
        options = model.options(request.options)
        async with self._acquire(model, options, request.keep_alive) as grant:
            building = chat_building(model, request, _limit(request, grant))
            prompt = (await build(building, grant.runner)).prompt
            return DebugInfo(prompt.text, len(prompt.images))

    async def _reply(
        self,
        writing: RunnerGeneration,
        reading: Reading,
        grant: Grant,
        started: int,
        model: CatalogModel,
        conversation: list[int] | None = None,
    ) -> AsyncGenerator[Event, None]:
        """The events of what the runner writes; the observer is told of them.

        Closing this closes ``writing``. With the tokens of a ``conversation``, ``Done`` has those
        with the reply's as its context.
        """
        name, has_begun = model.name.short, False
        async with aclosing(writing):
            async for message in writing:
                duration = time.perf_counter_ns() - started
                if not (has_begun or isinstance(message, Finished)):
                    has_begun = True
                    self._observe(TextBegan(name, duration))
                events = reading.events(message)
                if reading.complete:
                    writing.conclude()
                end = None
                if isinstance(message, Finished):
                    context = [] if conversation is None else [*conversation, *message.tokens]
                    end = reading.done(message, grant, started, context)
                    self._observe(_generated(name, end, duration))
                for event in events:
                    yield event
                if end is not None:
                    yield end

    async def _unload(self, model: CatalogModel) -> Done:
        """Any model can be unloaded, also one that writes no text."""
        await self._scheduler.unload(model.key, model.name.short)
        return Done("unload")

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


def _write(
    grant: Grant,
    prompt: list[int],
    options: dict[str, Any],
    request: GenerateRequest | ChatRequest,
    form: Form | None,
    *,
    images: Sequence[Placed] = (),
    score_prompt: bool = False,
    tell_end: bool = False,
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
        score_prompt=score_prompt,
        tell_end=tell_end,
        images=images,
    )


def _generated(model: str, done: Done, duration: int) -> Generated:
    stats = done.stats
    assert stats is not None, "what was written has figures"
    return Generated(
        model=model,
        reason=done.reason,
        prompt_count=stats.prompt_eval_count,
        cached_count=done.cached_count,
        dropped_count=done.dropped_count,
        eval_count=stats.eval_count,
        prompt_duration=stats.prompt_eval_duration,
        eval_duration=stats.eval_duration,
        duration=duration,
    )
