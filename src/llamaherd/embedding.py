"""Embeddings and rankings from the model's name to the numbers, for every dialect."""

from __future__ import annotations

import asyncio
import math
import operator
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from llamaherd.api.embeddings import EmbedRequest
from llamaherd.api.rerank import RerankRequest
from llamaherd.catalog import Catalog, CatalogModel
from llamaherd.errors import BadRequest, LlamaherdError, ModelNotFound, PromptError
from llamaherd.generation.prompting import LONGEST_TEXT
from llamaherd.runner.inbox import failed
from llamaherd.runner.process import Runner
from llamaherd.runner.protocol import Embed, InputFailure
from llamaherd.runner.vectors import Embeddings, embed
from llamaherd.scheduler.loop import Scheduler
from llamaherd.telemetry import Observer, TextsEmbedded, unobserved


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors and figures; durations in nanoseconds."""

    embeddings: Embeddings
    total_duration: int
    load_duration: int


@dataclass(frozen=True, slots=True)
class Ranked:
    """Documents by index with their scores, the best first; ``tokens`` were evaluated in all."""

    scores: Sequence[tuple[int, float]]
    tokens: int
    total_duration: int
    load_duration: int


class Embedding:
    """Runs the requests of every dialect. Any model embeds; see ``llama.embedding`` for how."""

    def __init__(
        self, catalog: Catalog, scheduler: Scheduler, observe: Observer = unobserved
    ) -> None:
        self._catalog = catalog
        self._scheduler = scheduler
        self._observe = observe

    async def embed(self, request: EmbedRequest) -> Embedded:
        """A vector for each input, or the error of the first that has none unless ``partial``.

        Without inputs the model is only loaded.
        """
        return await self._run(
            await self._find(request.model),
            request.options,
            request.keep_alive,
            Embed(
                0,
                request.inputs,
                truncate=request.truncate,
                partial=request.partial,
                normalize=request.normalize,
                dimensions=request.dimensions,
                decimal=request.decimal,
            ),
            lambda index: f" (input {index})" if request.listed else "",
        )

    async def rerank(self, request: RerankRequest) -> Ranked:
        """Documents in the order in which they answer the query.

        A cross-encoder reads query and document together. Its score is the probability that the
        document is relevant: the logistic function of its one output, or the first of several
        that are probabilities already. The score of any other model is the cosine of the angle
        between the vectors of query and document, from -1 to 1.
        """
        model = await self._find(request.model)
        documents: list[str | list[int]] = [*request.documents]
        if model.shape.ranks:
            question = Embed(0, documents, query=request.query, normalize=False)
        else:
            question = Embed(0, [*documents, request.query])

        def place(index: int) -> str:
            return f" (document {index})" if index < len(documents) else " (query)"

        done = await self._run(model, request.options, request.keep_alive, question, place)
        ranking = await asyncio.to_thread(_ranking, done.embeddings)
        return Ranked(
            ranking[: request.top_n],
            done.embeddings.tokens,
            done.total_duration,
            done.load_duration,
        )

    async def _find(self, name: str) -> CatalogModel:
        if not name:
            raise BadRequest("model is required")
        try:
            known = self._catalog.known(name)
            return known if known else await asyncio.to_thread(self._catalog.find, name)
        except ModelNotFound:
            raise ModelNotFound(name, f'model "{name}" not found, try pulling it first') from None

    async def _run(
        self,
        model: CatalogModel,
        options: dict[str, Any],
        keep_alive: int | None,
        question: Embed,
        place: Callable[[int], str],
    ) -> Embedded:
        """``place`` is what stands behind the error of an input."""
        started = time.perf_counter_ns()
        too_long = _too_long(question)
        if too_long and not question.partial:
            raise _error(too_long[0], place)
        spec = model.load_spec(model.options(options))
        async with self._scheduler.acquire(spec, keep_alive) as grant:
            found = await _embed_all_but(too_long, question, grant.runner)
        if found.failures and not question.partial:
            raise _error(found.failures[0], place)
        duration = time.perf_counter_ns() - started
        count = len(question.inputs) - len(found.failures)
        self._observe(TextsEmbedded(model.name.short, count, found.tokens, duration))
        return Embedded(found, duration, grant.load_duration)


def _too_long(question: Embed) -> list[InputFailure]:
    """Inputs that aren't even sent to a runner."""
    return [
        InputFailure(
            index,
            f"the text has {len(given)} characters, at most {LONGEST_TEXT} are read",
            PromptError.status,
        )
        for index, given in enumerate(question.inputs)
        if len(given) > LONGEST_TEXT
    ]


async def _embed_all_but(
    left_out: Sequence[InputFailure], question: Embed, runner: Runner
) -> Embeddings:
    """What the runner makes of ``question`` without the inputs that have failed before."""
    failed_before = {failure.index for failure in left_out}
    places = [index for index in range(len(question.inputs)) if index not in failed_before]
    if not places:
        return Embeddings(question, [None] * len(left_out), 0, left_out)
    inputs = [question.inputs[index] for index in places]
    found = await embed(runner, msgspec.structs.replace(question, inputs=inputs))
    vectors: list[bytes | None] = [None] * len(question.inputs)
    for index, vector in zip(places, found.vectors, strict=True):
        vectors[index] = vector
    failures = [
        *left_out,
        *(msgspec.structs.replace(each, index=places[each.index]) for each in found.failures),
    ]
    failures.sort(key=lambda failure: failure.index)
    return Embeddings(question, vectors, found.tokens, failures)


def _error(failure: InputFailure, place: Callable[[int], str]) -> LlamaherdError:
    return failed(failure.message + place(failure.index), failure.status)


def _ranking(embeddings: Embeddings) -> list[tuple[int, float]]:
    """All documents with their scores, the best first; without ``query`` the last input is it."""
    count = len(embeddings.vectors)
    vectors = [embeddings.numbers(index) or [] for index in range(count)]
    if embeddings.request.query is not None:
        scores = [_probability(vector) for vector in vectors]
    else:
        *vectors, query = vectors
        scores = [_cosine(vector, query) for vector in vectors]
    return sorted(enumerate(scores), key=lambda scored: -scored[1])


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Of two vectors of length 1, as exactly as single precision has it."""
    return max(-1.0, min(1.0, math.fsum(map(operator.mul, one, other))))


def _probability(outputs: Sequence[float]) -> float:
    if len(outputs) > 1:
        return outputs[0]
    # Beyond this the logistic function is 0 to the last digit, and its exponential overflows.
    return 1 / (1 + math.exp(-max(outputs[0], -700.0)))
