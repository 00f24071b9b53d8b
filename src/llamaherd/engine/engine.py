"""Continuous batching: all requests advance together, one step at a time.

A step admits waiting requests to free slots, evaluates one token of every reply that is being
written and as much of the waiting prompts as the pacer allows, chooses the next tokens, and sends
their text. Where evaluation runs on another device, the text of the last step is sent while the
device is busy with this one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as Tokens
from time import monotonic_ns
from typing import Final, NamedTuple

from llamaherd.engine.failures import failure_of
from llamaherd.engine.grammar import Constraint, Grammars, wait_for_any
from llamaherd.engine.likelihood import PromptScores, Trace
from llamaherd.engine.pictures import Parts, weave
from llamaherd.engine.planning import NOBODY, Planner
from llamaherd.engine.prefix_cache import PrefixCache
from llamaherd.engine.sampling import TokenSampler
from llamaherd.engine.sequence import FinishReason, Sequence, fit_prompt, reply_limit
from llamaherd.engine.stopping import ReplyText
from llamaherd.errors import PromptError
from llamaherd.llama.backend import (
    Backend,
    CacheFull,
    DecodeAborted,
    DecodeFailed,
    Logits,
)
from llamaherd.runner.protocol import Chunk, Finished, Generate, RunnerMessage, Scored

#: How long a step waits for a grammar when it has nothing else to do, in seconds. Short enough to
#: see new and cancelled requests.
_GRAMMAR_PATIENCE: Final = 0.05

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
        self._planner = Planner(backend, self._prefixes)
        self._waiting: deque[_Waiting] = deque()
        self._running: list[Sequence] = []
        self._fresh: list[_Written] = []
        self._held: list[tuple[Sequence, Constraint, Logits]] = []
        self._grammars = Grammars(backend)
        self._outbox: list[RunnerMessage] = []
        self._reading = NOBODY

    @property
    def busy(self) -> bool:
        """Whether ``step`` has anything to do."""
        return bool(self._running or self._waiting)

    @property
    def writing(self) -> int:
        """How many replies wait for their next token."""
        return sum(sequence.is_writing for sequence in self._running)

    def make_room(self) -> bool:
        """Forget a prefix for the sake of others who use the memory; False when there is none."""
        return self._prefixes.evict()

    def submit(
        self, request: Generate, images: Tokens[Parts] = (), viewing_duration: int = 0
    ) -> None:
        """Queue a request; its ``Chunk`` messages and one ``Finished`` or ``Failed`` follow.

        ``images`` are what the model is shown for those of the request, one for each, which took
        so many nanoseconds to find.
        """
        self._waiting.append(_Waiting(request, images, viewing_duration))

    def cancel(self, request_id: int) -> None:
        """Forget a request; nothing more is sent for it. Unknown ids are ignored."""
        self._waiting = deque(each for each in self._waiting if each.request.id != request_id)
        for sequence in self._running:
            if sequence.id == request_id:
                self._retire(sequence)
                return

    def conclude(self, request_id: int) -> None:
        """End a reply that is being written as if it had come to its end; others are ignored."""
        self._write()
        for sequence in self._running:
            if sequence.id == request_id:
                self._finish(sequence, "stop")
                break
        self._flush()

    def interrupt(self, request_id: int) -> None:
        """Cut the running step short if it reads this request's prompt; ``cancel`` must follow.

        For other threads: reading a long prompt takes seconds.
        """
        if request_id in self._reading:
            self._backend.abort()

    def step(self) -> None:
        """Advance every request. Does not raise for what concerns single requests."""
        self._admit()
        self._resume()
        self._planner.plan(self._running)
        self._reading = self._planner.reading
        evaluated = bool(self._planner.planned) and self._evaluate()
        # Between two steps the backend may work for others, who must not be interrupted.
        self._reading = NOBODY
        if evaluated:
            self._choose()
        if not self._backend.asynchronous or not self._planner.planned:
            self._write()
        self._flush()

    # --- admit ------------------------------------------------------------------------------

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._n_slots:
            waiting = self._waiting.popleft()
            try:
                self._running.append(self._start(*waiting))
            except Exception as error:
                self._outbox.append(failure_of(waiting.request.id, error))

    def _start(self, request: Generate, images: Tokens[Parts], viewing_duration: int) -> Sequence:
        backend = self._backend
        prompt = request.prompt
        if prompt and not 0 <= min(prompt) <= max(prompt) < backend.n_vocab:
            raise PromptError(f"the prompt has tokens outside 0 to {backend.n_vocab - 1}")
        scored = request.score_prompt
        if scored and images:
            raise PromptError("a prompt with images can't be scored")
        places = [image.at for image in request.images]
        cells, pictures = weave(prompt, list(zip(places, images, strict=True)))
        if (longest := pictures.longest_mutual) > backend.batch.capacity:
            raise PromptError(
                f"an image takes {longest} tokens at once, a batch {backend.batch.capacity}:"
                " a larger num_batch is needed"
            )
        fitted = fit_prompt(
            request, cells, pictures, backend.n_ctx, begins_with_bos=cells[:1] == [backend.bos]
        )
        grammar = request.grammar
        constraint = None if grammar is None else self._grammars.constraint(grammar)
        said = [token for token in fitted.tokens if token >= 0] if images else fitted.tokens
        sampler = TokenSampler(request.sampling, backend, said)
        # Of what lies in the memory the logits are gone.
        slot = self._prefixes.acquire(fitted.tokens, fitted.pictures, reuse=not scored)
        text = ReplyText(request.stop)
        n_top, piece = request.top_logprobs, backend.piece
        return Sequence(
            request=request,
            slot=slot,
            sampler=sampler,
            text=text,
            keep=fitted.keep,
            limit=reply_limit(request.num_predict, backend.n_ctx),
            prompt_count=len(fitted.tokens),
            prompt_duration=viewing_duration,
            cached_count=slot.evaluated,
            dropped_count=fitted.dropped,
            constraint=constraint,
            trace=None if n_top is None else Trace(text, n_top, piece),
            scores=PromptScores(fitted.tokens, n_top or 0, piece) if scored else None,
        )

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
            for planned in self._planner.planned:
                self._prefixes.restore(planned.sequence.slot)
            return False
        except DecodeFailed as error:
            for planned in self._planner.planned:
                self._fail(planned.sequence, error)
            return False
        for planned in self._planner.planned:
            planned.sequence.slot.evaluated += planned.length
        if self._backend.asynchronous:
            self._write()
            self._flush()
            self._backend.wait()
        self._planner.evaluated(monotonic_ns() - started)
        return True

    # --- choose the next tokens -------------------------------------------------------------

    def _choose(self) -> None:
        for sequence, length, row in self._planner.planned:
            if sequence.scores is not None:
                self._score(sequence, sequence.scores, length, row)
            if sequence.finished or sequence.slot.pending:
                continue
            if sequence.prompt_done is None:
                sequence.prompt_done = monotonic_ns()
            if sequence.limit == 0:
                self._finish(sequence, "length")
                continue
            self._choose_for(sequence, row)

    def _score(self, sequence: Sequence, scores: PromptScores, length: int, row: int) -> None:
        """Tell the prompt's tokens that the ``length`` just read, up to ``row``, say more about."""
        end = sequence.slot.evaluated
        try:
            tokens = scores.read(
                end - length, end, lambda place: self._backend.logits(row - (end - 1 - place))
            )
        except Exception as error:
            self._fail(sequence, error)
            return
        if tokens:
            self._outbox.append(Scored(sequence.id, tokens, scores.complete))
        if scores.complete:
            sequence.scores = None

    def _choose_for(self, sequence: Sequence, row: int) -> None:
        constraint = sequence.constraint
        try:
            logits = self._backend.logits(row)
            if constraint is None:
                self._append(sequence, [sequence.choose(logits)])
            elif not self._follow(sequence, constraint, logits):
                self._held.append((sequence, constraint, logits.copy()))
        except Exception as error:
            self._fail(sequence, error)

    def _follow(self, sequence: Sequence, constraint: Constraint, logits: Logits) -> bool:
        """Go on within a grammar; False if it isn't ready to say how."""
        if not constraint.is_ready():
            return False
        tokens = forced = constraint.opening()
        if not forced and not constraint.complete:
            if not constraint.is_ready():
                return False
            token = sequence.choose(logits, constraint.mask())
            forced = constraint.accept(token)
            tokens = [token, *forced]
        for token in forced:
            sequence.force(token)
        self._append(sequence, tokens, complete=constraint.complete)
        return True

    def _resume(self) -> None:
        """Go on with the replies whose grammar took longer than a step.

        They wait for it without holding up the others.
        """
        for sequence in list(self._running):
            constraint = sequence.constraint
            if constraint is not None and constraint.failure is not None:
                self._fail(sequence, constraint.failure)
        held = [entry for entry in self._held if not entry[0].finished]
        if held and len(held) == len(self._running):
            wait_for_any([constraint for _, constraint, _ in held], _GRAMMAR_PATIENCE)
        self._held = []
        for entry in held:
            sequence, constraint, logits = entry
            try:
                if not self._follow(sequence, constraint, logits):
                    self._held.append(entry)
            except Exception as error:
                self._fail(sequence, error)

    def _append(self, sequence: Sequence, written: list[int], *, complete: bool = False) -> None:
        """Add tokens to the reply, which nothing can follow if it is ``complete``."""
        tokens = sequence.slot.tokens
        fresh = []
        for token in written:
            sequence.written += 1
            if self._backend.is_end(token):
                sequence.ending = "stop"
                sequence.at_end = True
                break
            tokens.append(token)
            fresh.append(token)
            is_full = len(tokens) > self._backend.n_ctx and not sequence.may_shift
            if sequence.written >= sequence.limit or is_full:
                sequence.ending = "length"
                break
        if complete and len(fresh) == len(written):
            sequence.ending = "stop"
        sequence.reply += fresh
        self._fresh.append(_Written(sequence, fresh, sequence.ending))

    # --- write text -------------------------------------------------------------------------

    def _write(self) -> None:
        for sequence, tokens, ending in self._fresh:
            if sequence.finished:
                continue
            sequence.unsent += len(tokens)
            if sequence.trace is None:
                text = sequence.text.push(b"".join(map(self._backend.piece, tokens)))
            else:
                text = sequence.trace.push(len(tokens))
            self._emit(sequence, text)
            if sequence.text.stopped:
                self._finish(sequence, "stop")
            elif ending is not None:
                self._finish(sequence, ending)
        self._fresh.clear()

    def _emit(self, sequence: Sequence, text: str) -> None:
        logprobs = [] if sequence.trace is None else sequence.trace.take()
        if text or logprobs:
            self._outbox.append(Chunk(sequence.id, text, logprobs, sequence.unsent))
            sequence.unsent = 0

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        self._emit(sequence, sequence.finish_text())
        if sequence.text.stopped:
            reason = "stop"
        done = sequence.prompt_done
        self._outbox.append(
            Finished(
                sequence.id,
                reason,
                prompt_count=sequence.prompt_count,
                prompt_duration=sequence.prompt_duration,
                eval_count=sequence.counted(self._backend.piece),
                eval_duration=0 if done is None else monotonic_ns() - done,
                cached_count=sequence.cached_count,
                dropped_count=sequence.dropped_count,
                tokens=sequence.kept(self._backend.piece),
                stop=sequence.text.stop,
            )
        )
        self._retire(sequence)

    def _fail(self, sequence: Sequence, error: BaseException) -> None:
        if not sequence.finished:
            self._outbox.append(failure_of(sequence.id, error))
            self._retire(sequence, in_doubt=isinstance(error, DecodeFailed))

    def _retire(self, sequence: Sequence, *, in_doubt: bool = False) -> None:
        sequence.finished = True
        self._running.remove(sequence)
        sequence.sampler.close()
        if sequence.constraint is not None:
            sequence.constraint.close()
        if in_doubt:
            self._prefixes.discard(sequence.slot)
        else:
            self._prefixes.release(sequence.slot)

    def _flush(self) -> None:
        if self._outbox:
            outbox, self._outbox = self._outbox, []
            self._send(outbox)


class _Waiting(NamedTuple):
    """A request, and what the model is shown for its images."""

    request: Generate
    images: Tokens[Parts]
    viewing_duration: int


class _Written(NamedTuple):
    """Tokens whose text is yet to be sent, and whether the reply ends with them."""

    sequence: Sequence
    tokens: list[int]
    ending: FinishReason | None
