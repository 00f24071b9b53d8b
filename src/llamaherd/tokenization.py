"""Texts to tokens and back, by the vocabulary of a model that is loaded for that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from llamaherd.api.tokenize import (
    DetokenizeReply,
    DetokenizeRequest,
    Piece,
    TokenizeReply,
    TokenizeRequest,
    piece,
)
from llamaherd.catalog import Catalog
from llamaherd.errors import PromptError
from llamaherd.generation.prompting import LONGEST_TEXT
from llamaherd.scheduler.loop import Grant, Scheduler

#: The longest text, in bytes, whose tokens are told with their own bytes: all of it must fit into
#: one answer of the runner, and the bytes of many short tokens take more than the text.
LONGEST_IN_PIECES: Final = 1 << 20


class Tokenization:
    """What the vocabularies of the models in ``catalog`` are asked for."""

    def __init__(self, catalog: Catalog, scheduler: Scheduler) -> None:
        self._catalog = catalog
        self._scheduler = scheduler

    async def tokenize(self, request: TokenizeRequest) -> TokenizeReply:
        """Raises ``PromptError`` for a text that is too long or not in the vocabulary."""
        started = time.perf_counter_ns()
        most = LONGEST_IN_PIECES if request.with_pieces else LONGEST_TEXT
        if (size := len(request.content.encode())) > most:
            raise PromptError(f"content: the text has {size} bytes, at most {most} are read")
        text = request.content, request.add_special, request.parse_special
        async with self._runner_for(request) as grant:
            tokens: Sequence[int | Piece]
            if request.with_pieces:
                tokens = [piece(*found) for found in await grant.runner.pieces(*text)]
            else:
                tokens = await grant.runner.tokenize(*text)
            duration = time.perf_counter_ns() - started
            return TokenizeReply(request.model, tokens, duration, grant.load_duration)

    async def detokenize(self, request: DetokenizeRequest) -> DetokenizeReply:
        """Raises ``BadRequest`` for a number that is no token."""
        started = time.perf_counter_ns()
        async with self._runner_for(request) as grant:
            text = await grant.runner.detokenize(request.tokens)
            duration = time.perf_counter_ns() - started
            return DetokenizeReply(request.model, text, text, duration, grant.load_duration)

    @asynccontextmanager
    async def _runner_for(
        self, request: TokenizeRequest | DetokenizeRequest
    ) -> AsyncIterator[Grant]:
        model = self._catalog.known(request.model)
        if model is None:
            model = await asyncio.to_thread(self._catalog.find, request.model)
        spec = model.load_spec(model.options(request.options))
        async with self._scheduler.acquire(spec, request.keep_alive) as grant:
            yield grant
