"""What goes into the batch of a step: the next token of every reply, and as much of the waiting
prompts as keeps the replies flowing."""

from __future__ import annotations

from collections.abc import Sequence as Several
from typing import Final, NamedTuple

from llamaherd.engine.batch import PromptPacer
from llamaherd.engine.prefix_cache import PrefixCache
from llamaherd.engine.sequence import Sequence
from llamaherd.llama.backend import Backend

NOBODY: Final[frozenset[int]] = frozenset()


class Planned(NamedTuple):
    """A sequence in the batch: how many of its cells, and the row of the last."""

    sequence: Sequence
    length: int
    row: int


class Planner:
    """Fills a backend's batch.

    ``planned`` is what is in it. ``reading`` are the requests whose prompts are read in this step.
    """

    def __init__(self, backend: Backend, prefixes: PrefixCache) -> None:
        self._backend = backend
        self._prefixes = prefixes
        self._pacer = PromptPacer(backend.batch.capacity)
        self._has_shown = False
        self.planned: list[Planned] = []
        self.reading = NOBODY

    def plan(self, running: Several[Sequence]) -> None:
        """Make the next batch; contexts that are full make room."""
        self._backend.batch.clear()
        self.planned = []
        self.reading = NOBODY
        due = []
        for sequence in running:
            if sequence.ending is not None or not sequence.slot.pending:
                continue
            while len(sequence.slot.tokens) > self._backend.n_ctx:
                self._shift(sequence)
            due.append(sequence)
        viewing = [sequence for sequence in due if sequence.slot.ahead is not None]
        # A batch has tokens or an image, so they take turns.
        self._has_shown = bool(viewing) and not (self._has_shown and len(viewing) < len(due))
        if self._has_shown:
            sequence = viewing[0]
            others = (each.is_writing for each in due if each is not sequence)
            self._plan_picture(sequence, writing=sum(others))
        else:
            if viewing:
                due = [each for each in due if each not in viewing]
            self._plan_tokens(due, share=self._backend.batch.capacity // max(len(running), 1))

    def evaluated(self, duration: int) -> None:
        """Charge every prompt its share of a step that took ``duration`` nanoseconds."""
        total = self._backend.batch.size
        read = 0
        for sequence, length, _ in self.planned:
            if sequence.prompt_done is None:
                sequence.prompt_duration += duration * length // total
                read += length
        self._pacer.measured(read, duration)

    def _plan_tokens(self, due: list[Sequence], share: int) -> None:
        """``share`` is the most that one reply adds at once."""
        batch = self._backend.batch
        reading = []
        for sequence in due:
            slot = sequence.slot
            if not sequence.is_writing:
                reading.append(sequence)
            elif slot.pending == 1:
                row = batch.add(slot.tokens[-1], slot.position(slot.evaluated), slot.number)
                self.planned.append(Planned(sequence, 1, row))
            else:
                self._plan_run(sequence, share)
        if reading:
            self._plan_reading(reading)

    def _plan_reading(self, reading: list[Sequence]) -> None:
        """Fill the batch with prompts, the oldest first."""
        writers = len(self.planned)
        budget = self._pacer.budget(writing=self._backend.batch.size)
        # A prompt that is scored needs the logits of all its rows; of each other one is enough.
        spare_outputs = self._backend.n_outputs - writers - len(reading)
        for sequence in reading:
            if budget <= 0:
                break
            if sequence.scores is None:
                budget -= self._plan_run(sequence, budget)
            else:
                length = self._plan_run(sequence, min(budget, 1 + spare_outputs))
                spare_outputs -= length - 1
                budget -= length
        self.reading = frozenset(each.sequence.id for each in self.planned[writers:])

    def _plan_run(self, sequence: Sequence, most: int) -> int:
        """Add up to ``most`` of the tokens that are to be evaluated; how many these are."""
        slot = sequence.slot
        most = slot.pictures.tokens_from(slot.evaluated, most)
        run = slot.tokens[slot.evaluated : slot.evaluated + most]
        want = sequence.wanted(len(run))
        position = slot.position(slot.evaluated)
        row = self._backend.batch.extend(run, position, slot.number, want=want)
        self.planned.append(Planned(sequence, len(run), row))
        return len(run)

    def _plan_picture(self, sequence: Sequence, writing: int) -> None:
        """Fill the batch with an image, or as much of it as ``writing`` other replies can bear."""
        slot = sequence.slot
        stretch = slot.ahead
        assert stretch is not None
        assert stretch.picture is not None, "what is still to be evaluated is there"
        start = slot.evaluated - stretch.start
        length = stretch.length - start
        if not stretch.picture.mutual:
            length = min(length, self._pacer.budget(writing=writing))
        shown = stretch.picture.shown(slot.position(stretch.start), start, length)
        row = self._backend.batch.show(shown, slot.number, want=sequence.wanted(length))
        self.planned.append(Planned(sequence, length, row))
        self.reading = frozenset((sequence.id,))

    def _shift(self, sequence: Sequence) -> None:
        """Make room in a full context: half of what may go goes, the oldest first."""
        discard = max((self._backend.n_ctx - sequence.keep) // 2, 1)
        self._prefixes.shift(sequence.slot, sequence.keep, discard)
