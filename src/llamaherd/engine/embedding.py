"""Embedding many inputs of many requests together, one step at a time.

Requests take turns: a step takes one input of each, then a second one of each, and so on, so a
long list of inputs doesn't hold up the short ones behind it. A step evaluates a bounded number of
tokens. Where text is written in the same process, its steps come between these.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import Final

import numpy as np

from llamaherd.engine.batch import PromptPacer
from llamaherd.engine.passages import Passages
from llamaherd.engine.vectors import encoded, finished
from llamaherd.llama.backend import (
    CacheFull,
    DecodeAborted,
    DecodeFailed,
    Vector,
    VectorBackend,
)
from llamaherd.runner.protocol import Embed, Embedded, InputFailure, RunnerMessage, Vectors

logger = logging.getLogger(__name__)

#: Tokens of a batch of several inputs that are evaluated whole. Longer ones aren't faster: for
#: inputs of 14 tokens a small encoder takes 0.61 ms of one core per token one by one, 0.32 ms in
#: batches of 128 or of 256, and as much in batches of 512.
_BATCH_TOKENS: Final = 256

_NOBODY: Final[frozenset[int]] = frozenset()

Send = Callable[[list[RunnerMessage]], None]


@dataclass(slots=True, eq=False)
class _Job:
    """A request under way: which of its inputs wait, and how many are not answered yet."""

    passages: Passages
    waiting: deque[int]
    open: int
    failures: list[InputFailure] = field(default_factory=list)

    @property
    def request(self) -> Embed:
        return self.passages.request

    def tokens(self, index: int) -> list[int]:
        tokens = self.passages.tokens[index]
        assert tokens is not None
        return tokens


@dataclass(slots=True, eq=False)
class _Active:
    """An input with a sequence of the backend, ``evaluated`` of its tokens being in there.

    The batch has ``planned`` more of them, the last in ``row``.
    """

    job: _Job
    index: int
    tokens: list[int]
    slot: int
    evaluated: int = 0
    planned: int = 0
    row: int = -1

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.evaluated


class Embedder:
    """Runs requests on a backend and sends their vectors as they come.

    ``make_room`` frees memory that others hold without need, and tells whether there was any. All
    methods but ``interrupt`` belong to one thread.
    """

    def __init__(
        self, backend: VectorBackend, send: Send, make_room: Callable[[], bool] = lambda: False
    ) -> None:
        self._backend: Final = backend
        self._send = send
        self._make_room = make_room
        self._pacer = PromptPacer(backend.batch.capacity)
        self._jobs: deque[_Job] = deque()
        self._active: list[_Active] = []
        self._free = list(reversed(backend.slots))
        self._evaluating = _NOBODY

    @property
    def busy(self) -> bool:
        """Whether ``step`` has anything to do."""
        return bool(self._jobs or self._active)

    def submit(self, passages: Passages) -> None:
        """Queue a request; its ``Vectors`` and one ``Embedded`` follow."""
        good = [index for index, tokens in enumerate(passages.tokens) if tokens is not None]
        if passages.failures and not passages.request.partial:
            good = []
        job = _Job(passages, deque(good), len(good), list(passages.failures))
        if good:
            self._jobs.append(job)
        else:
            self._send([self._end(job)])

    def cancel(self, request_id: int) -> None:
        """Forget a request; nothing more is sent for it. Unknown ids are ignored."""
        self._jobs = deque(job for job in self._jobs if job.request.id != request_id)
        for active in [found for found in self._active if found.job.request.id == request_id]:
            self._release(active)

    def interrupt(self, request_id: int) -> None:
        """Cut the running step short if it is about this request; ``cancel`` must follow.

        For other threads: a long input takes seconds.
        """
        if request_id in self._evaluating:
            self._backend.abort()

    def step(self, *, writing: int = 0) -> None:
        """Advance the requests, while ``writing`` replies wait for their next token.

        Does not raise for what concerns single requests.
        """
        self._admit()
        last = self._plan(writing)
        self._evaluating = frozenset(active.job.request.id for active in last or self._active)
        try:
            self._evaluate(last)
        except CacheFull:
            self._retreat()
        except DecodeAborted:
            for active in self._active:
                self._restart(active)
        except DecodeFailed as error:
            for active in [active for active in self._active if active.planned]:
                self._fail(active, str(error))
        finally:
            self._evaluating = _NOBODY

    # --- admit ------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Take inputs of the requests in turn, as long as there is room for the next one."""
        backend = self._backend
        most = min(_BATCH_TOKENS, backend.batch.capacity) if backend.whole else backend.n_ctx
        held = sum(len(active.tokens) for active in self._active)
        while self._jobs and self._free:
            job = self._jobs[0]
            tokens = job.tokens(job.waiting[0])
            if self._active and held + len(tokens) > most:
                break
            held += len(tokens)
            self._active.append(_Active(job, job.waiting.popleft(), tokens, self._free.pop()))
            self._jobs.rotate(-1)
            if not job.waiting:
                self._jobs.remove(job)

    # --- evaluate ---------------------------------------------------------------------------

    def _plan(self, writing: int) -> list[_Active]:
        """Fill the batch; the inputs that come to their end in it, if any do.

        Where an input needn't be read whole, last tokens have batches of their own.
        """
        self._backend.batch.clear()
        for active in self._active:
            active.planned = 0
        last = [active for active in self._active if self._backend.whole or active.pending == 1]
        if last:
            for active in last:
                self._plan_run(active, active.pending)
            return last
        budget = self._pacer.budget(writing=writing)
        for active in self._active:
            if budget <= 0:
                break
            self._plan_run(active, min(active.pending - 1, budget))
            budget -= active.planned
        return []

    def _plan_run(self, active: _Active, length: int) -> None:
        run = active.tokens[active.evaluated : active.evaluated + length]
        active.planned = length
        active.row = self._backend.batch.extend(
            run, active.evaluated, active.slot, want=int(length == active.pending)
        )

    def _evaluate(self, last: list[_Active]) -> None:
        if last:
            self._backend.embed()
            self._answer(last)
            return
        started = monotonic_ns()
        self._backend.read()
        self._pacer.measured(self._backend.batch.size, monotonic_ns() - started)
        for active in self._active:
            active.evaluated += active.planned

    def _retreat(self) -> None:
        """Make room in a memory that is full; the youngest input begins again if need be."""
        if self._make_room():
            return
        youngest = self._active[-1]
        if len(self._active) == 1:
            self._fail(youngest, "the context memory is full")
            return
        self._release(youngest)
        job = youngest.job
        job.waiting.appendleft(youngest.index)
        if job not in self._jobs:
            self._jobs.append(job)

    def _restart(self, active: _Active) -> None:
        """After an evaluation that broke off, what is in the memory is in doubt."""
        self._backend.forget(active.slot)
        active.evaluated = 0

    # --- answer -----------------------------------------------------------------------------

    def _answer(self, last: list[_Active]) -> None:
        vectors = [self._backend.vector(active.slot, active.row).copy() for active in last]
        by_job: dict[_Job, list[tuple[int, Vector]]] = {}
        for active, vector in zip(last, vectors, strict=True):
            by_job.setdefault(active.job, []).append((active.index, vector))
            self._release(active)
        for job, found in by_job.items():
            messages = self._messages(job, found)
            if not job.open:
                messages.append(self._end(job))
            self._send(messages)

    def _messages(self, job: _Job, found: list[tuple[int, Vector]]) -> list[RunnerMessage]:
        request = job.request
        job.open -= len(found)
        good = [(index, vector) for index, vector in found if np.isfinite(vector).all()]
        for index in {index for index, _ in found} - {index for index, _ in good}:
            message = "the model computed numbers that are infinite or undefined (NaN)"
            job.failures.append(InputFailure(index, message, 500))
        if not good:
            return []
        rows = finished(
            np.stack([vector for _, vector in good]),
            dimensions=request.dimensions,
            normalize=request.normalize,
        )
        data = encoded(rows, decimal=request.decimal)
        return [Vectors(request.id, [index for index, _ in good], data)]

    def _fail(self, active: _Active, message: str) -> None:
        job = active.job
        logger.error("input %d of request %d failed: %s", active.index, job.request.id, message)
        self._release(active)
        job.failures.append(InputFailure(active.index, message, 500))
        job.open -= 1
        if not job.open:
            self._send([self._end(job)])

    def _release(self, active: _Active) -> None:
        self._backend.forget(active.slot)
        self._active.remove(active)
        self._free.append(active.slot)

    def _end(self, job: _Job) -> Embedded:
        request = job.request
        return Embedded(
            request.id,
            request.dimensions or self._backend.width,
            [len(tokens or ()) for tokens in job.passages.tokens],
            sorted(job.failures, key=lambda failure: failure.index),
        )
