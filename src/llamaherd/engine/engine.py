"""Continuous batching: all requests advance together, one step at a time.

A step admits waiting requests to free slots, evaluates one token of every reply that is being
written and as much of the waiting prompts as the pacer allows, chooses the next tokens, and sends
their text. Where evaluation runs on another device, the text of the last step is sent while the
device is busy with this one.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from time import monotonic_ns
from typing import Final, NamedTuple

from llamaherd.engine.batch import PromptPacer
from llamaherd.engine.prefix_cache import PrefixCache
from llamaherd.engine.sampling import TokenSampler
from llamaherd.engine.sequence import FinishReason, Sequence, fit_prompt, reply_limit
from llamaherd.engine.stopping import ReplyText
from llamaherd.errors import LlamaherdError, PromptError
from llamaherd.llama.backend import (
    Backend,
    CacheFull,
    DecodeAborted,
    DecodeFailed,
    InvalidToken,
)
from llamaherd.runner.protocol import Chunk, Failed, Finished, Generate, RunnerMessage

logger = logging.getLogger(__name__)

_NOBODY: Final[frozenset[int]] = frozenset()

Send = Callable[[list[RunnerMessage]], None]


class Engine:
    """Runs requests on a backend, up to ``n_slots`` at a time, and sends what they produce.

    All methods but ``interrupt`` belong to one thread.
    """

    def __init__(self, backend: Backend, n_slots: int, send: Send) -> None:
        self._backend: Final = backend
        self._n_slots = n_slots
        self._send = send
        self._prefixes = PrefixCache(backend)
        self._pacer = PromptPacer(backend.batch.capacity)
        self._waiting: deque[Generate] = deque()
        self._running: list[Sequence] = []
        self._planned: list[_Planned] = []
        self._fresh: list[tuple[Sequence, int]] = []
        self._outbox: list[RunnerMessage] = []
        self._reading = _NOBODY

    @property
    def busy(self) -> bool:
        """Whether ``step`` has anything to do."""
        return bool(self._running or self._waiting)

    def submit(self, request: Generate) -> None:
        """Queue a request; its ``Chunk`` messages and one ``Finished`` or ``Failed`` follow."""
        self._waiting.append(request)

    def cancel(self, request_id: int) -> None:
        """Forget a request; nothing more is sent for it. Unknown ids are ignored."""
        self._waiting = deque(waiting for waiting in self._waiting if waiting.id != request_id)
        for sequence in self._running:
            if sequence.id == request_id:
                self._retire(sequence)
                return

    def interrupt(self, request_id: int) -> None:
        """Cut the running step short if it reads this request's prompt; ``cancel`` must follow.

        For other threads: reading a long prompt takes seconds.
        """
        if request_id in self._reading:
            self._backend.abort()

    def step(self) -> None:
        """Advance every request. Does not raise for what concerns single requests."""
        self._admit()
        self._plan()
        if self._planned and self._evaluate():
            self._choose()
        if not self._backend.asynchronous or not self._planned:
            self._write()
        self._flush()

    # --- admit ------------------------------------------------------------------------------

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._n_slots:
            request = self._waiting.popleft()
            try:
                self._running.append(self._start(request))
            except Exception as error:
                self._outbox.append(_failure(request.id, error))

    def _start(self, request: Generate) -> Sequence:
        backend = self._backend
        prompt = request.prompt
        if prompt and not 0 <= min(prompt) <= max(prompt) < backend.n_vocab:
            raise PromptError(f"the prompt has tokens outside 0 to {backend.n_vocab - 1}")
        fitted = fit_prompt(request, backend.n_ctx, begins_with_bos=prompt[:1] == [backend.bos])
        sampler = TokenSampler(request.sampling, backend, fitted.tokens)
        slot = self._prefixes.acquire(fitted.tokens)
        return Sequence(
            request=request,
            slot=slot,
            sampler=sampler,
            text=ReplyText(request.stop),
            keep=fitted.keep,
            limit=reply_limit(request.num_predict, backend.n_ctx),
            prompt_count=len(fitted.tokens),
            cached_count=slot.evaluated,
            dropped_count=fitted.dropped,
        )

    # --- build the batch --------------------------------------------------------------------

    def _plan(self) -> None:
        batch = self._backend.batch
        batch.clear()
        self._planned = planned = []
        reading = []
        for sequence in self._running:
            if sequence.ending is not None:
                continue
            slot = sequence.slot
            if len(slot.tokens) > self._backend.n_ctx:
                self._shift(sequence)
            if sequence.is_writing:
                row = batch.add(slot.tokens[-1], slot.evaluated, slot.number)
                planned.append(_Planned(sequence, 1, row))
            else:
                reading.append(sequence)
        self._reading = self._plan_reading(reading) if reading else _NOBODY

    def _plan_reading(self, reading: list[Sequence]) -> frozenset[int]:
        """Fill the batch with prompts, the oldest first; the requests whose turn it is."""
        batch, planned = self._backend.batch, self._planned
        writing = len(planned)
        budget = self._pacer.budget(writing=writing)
        for sequence in reading:
            if budget <= 0:
                break
            slot = sequence.slot
            chunk = slot.tokens[slot.evaluated : slot.evaluated + budget]
            is_last = len(chunk) == slot.pending
            row = batch.extend(chunk, slot.evaluated, slot.number, want_last=is_last)
            planned.append(_Planned(sequence, len(chunk), row))
            budget -= len(chunk)
        return frozenset(plan.sequence.id for plan in planned[writing:])

    def _shift(self, sequence: Sequence) -> None:
        """Make room in a full context: half of what may go goes, the oldest first."""
        discard = max((self._backend.n_ctx - sequence.keep) // 2, 1)
        self._prefixes.shift(sequence.slot, sequence.keep, discard)

    # --- evaluate ---------------------------------------------------------------------------

    def _evaluate(self) -> bool:
        """Whether the batch was evaluated; otherwise the next step tries again."""
        started = monotonic_ns()
        try:
            self._backend.decode()
        except CacheFull:
            if not self._prefixes.evict():
                youngest = self._running[-1]
                self._fail(youngest, DecodeFailed("the context memory is full"))
            return False
        except DecodeAborted:
            for planned in self._planned:
                self._prefixes.restore(planned.sequence.slot)
            return False
        except DecodeFailed as error:
            for planned in self._planned:
                self._fail(planned.sequence, error)
            return False
        for planned in self._planned:
            planned.sequence.slot.evaluated += planned.length
        if self._backend.asynchronous:
            self._write()
            self._flush()
            self._backend.wait()
        self._charge(monotonic_ns() - started)
        return True

    def _charge(self, duration: int) -> None:
        """Charge every prompt its share of the step's time."""
        total = self._backend.batch.size
        read = 0
        for sequence, length, _ in self._planned:
            if sequence.prompt_done is None:
                sequence.prompt_duration += duration * length // total
                read += length
        self._pacer.measured(read, duration)

    # --- choose the next tokens -------------------------------------------------------------

    def _choose(self) -> None:
        for sequence, _, row in self._planned:
            if sequence.finished or sequence.slot.pending:
                continue
            if sequence.prompt_done is None:
                sequence.prompt_done = monotonic_ns()
            if sequence.limit == 0:
                self._finish(sequence, "length")
                continue
            try:
                token = sequence.sampler.sample(self._backend.logits(row))
            except Exception as error:
                self._fail(sequence, error)
                continue
            self._append(sequence, token)

    def _append(self, sequence: Sequence, token: int) -> None:
        sequence.written += 1
        self._fresh.append((sequence, token))
        if self._backend.is_end(token):
            sequence.ending = "stop"
            return
        tokens = sequence.slot.tokens
        tokens.append(token)
        sequence.reply.append(token)
        is_full = len(tokens) > self._backend.n_ctx and not sequence.may_shift
        if sequence.written >= sequence.limit or is_full:
            sequence.ending = "length"

    # --- write text -------------------------------------------------------------------------

    def _write(self) -> None:
        for sequence, token in self._fresh:
            if sequence.finished:
                continue
            if sequence.ending == "stop":
                self._finish(sequence, "stop")
                continue
            text = sequence.text.push(self._backend.piece(token))
            if text:
                self._outbox.append(Chunk(sequence.id, text))
            if sequence.text.stopped:
                self._finish(sequence, "stop")
            elif sequence.ending is not None:
                self._finish(sequence, sequence.ending)
        self._fresh.clear()

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        if text := sequence.text.finish():
            self._outbox.append(Chunk(sequence.id, text))
        if sequence.text.stopped:
            reason = "stop"
        done = sequence.prompt_done
        self._outbox.append(
            Finished(
                sequence.id,
                reason,
                prompt_count=sequence.prompt_count,
                prompt_duration=sequence.prompt_duration,
                eval_count=sequence.written,
                eval_duration=0 if done is None else monotonic_ns() - done,
                cached_count=sequence.cached_count,
                dropped_count=sequence.dropped_count,
                tokens=self._kept_tokens(sequence),
            )
        )
        self._retire(sequence)

    def _kept_tokens(self, sequence: Sequence) -> list[int]:
        """The reply's tokens without those whose text a stop string cut off entirely."""
        reply, excess = sequence.reply, sequence.text.excess
        while reply and excess >= (size := len(self._backend.piece(reply[-1]))) > 0:
            excess -= size
            reply.pop()
        return reply

    def _fail(self, sequence: Sequence, error: Exception) -> None:
        if not sequence.finished:
            self._outbox.append(_failure(sequence.id, error))
            self._retire(sequence, in_doubt=isinstance(error, DecodeFailed))

    def _retire(self, sequence: Sequence, *, in_doubt: bool = False) -> None:
        sequence.finished = True
        self._running.remove(sequence)
        sequence.sampler.close()
        if in_doubt:
            self._prefixes.discard(sequence.slot)
        else:
            self._prefixes.release(sequence.slot)

    def _flush(self) -> None:
        if self._outbox:
            outbox, self._outbox = self._outbox, []
            self._send(outbox)


class _Planned(NamedTuple):
    """A sequence in the batch: how many of its tokens, and the row of the last."""

    sequence: Sequence
    length: int
    row: int


def _failure(request_id: int, error: Exception) -> Failed:
    """What the server is told; anything but a bad request is logged with its traceback."""
    if isinstance(error, InvalidToken):
        return Failed(request_id, str(error), PromptError.status)
    if isinstance(error, LlamaherdError):
        return Failed(request_id, error.message, error.status)
    logger.error("request %d failed", request_id, exc_info=error)
    return Failed(request_id, str(error) or type(error).__name__)
