"""One request while it runs: its prompt, its reply so far and its figures."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field
from typing import Final, Literal

from llamaherd.engine.grammar import Constraint
from llamaherd.engine.likelihood import PromptScores, Trace
from llamaherd.engine.pictures import Stretches
from llamaherd.engine.prefix_cache import Slot
from llamaherd.engine.sampling import Mask, TokenSampler
from llamaherd.engine.stopping import ReplyText
from llamaherd.errors import ImagesExceedContext, PromptError
from llamaherd.llama.backend import Logits
from llamaherd.runner.protocol import Generate

FinishReason = Literal["stop", "length"]

#: ``num_predict`` that writes until the context is full.
_UNTIL_FULL: Final = -2

#: Tokens written at once, as a grammar may force, that one step takes up beside its other work.
_LONGEST_RUN: Final = 32

#: A reply that doesn't end by itself is ended after this many contexts, as Ollama does.
_RUNAWAY_CONTEXTS: Final = 10


@dataclass(frozen=True, slots=True)
class FittedPrompt:
    """A prompt cut to the context. The first ``keep`` tokens stay when the context shifts."""

    tokens: Tokens[int]
    pictures: Stretches
    keep: int
    dropped: int


def fit_prompt(
    request: Generate,
    prompt: Tokens[int],
    pictures: Stretches,
    n_ctx: int,
    *,
    begins_with_bos: bool,
) -> FittedPrompt:
    """Keep the first ``num_keep`` tokens (BOS not counted) and as much of the end as fits.

    ``prompt`` are the request's tokens with its ``pictures`` among them. Raises ``PromptError``
    when there is nothing to read, or too much and ``truncate`` is off or every token is to be told,
    ``ImagesExceedContext`` when a picture would go, whole or in part: a model answers also to a
    question about what it hasn't seen. Older messages have gone before, with their pictures.
    """
    if not prompt:
        raise PromptError("no input provided")
    keep = len(prompt) if request.num_keep < 0 else request.num_keep + begins_with_bos
    # At least one token must be free to go when the context shifts.
    keep = min(keep, n_ctx - 1)
    excess = len(prompt) - n_ctx
    if excess <= 0:
        return FittedPrompt(prompt, pictures, keep, 0)
    if request.score_prompt or not request.truncate:
        raise PromptError("the input length exceeds the context length")
    end = keep + excess
    if pictures.any_in(keep, end):
        raise ImagesExceedContext(len(prompt), len(prompt) - len(request.prompt), n_ctx)
    rest = [*prompt[:keep], *prompt[end:]]
    return FittedPrompt(rest, pictures.without(keep, end), keep, excess)


def reply_limit(num_predict: int, n_ctx: int) -> int:
    """The most tokens that a reply may have."""
    runaway = _RUNAWAY_CONTEXTS * n_ctx
    return runaway if num_predict < 0 else min(num_predict, runaway)


@dataclass(slots=True, eq=False)
class Sequence:
    """A request in a slot. Durations and times in nanoseconds of the monotonic clock.

    ``reply`` are the tokens written, without one that ends the reply; ``written`` counts that too.
    ``unsent`` counts those whose text has not left yet. ``scores`` is there until the whole prompt
    has been told. ``at_end`` says that a token ended the reply.
    """

    request: Generate
    slot: Slot
    sampler: TokenSampler
    text: ReplyText
    keep: int
    limit: int
    prompt_count: int
    cached_count: int
    dropped_count: int
    constraint: Constraint | None = None
    trace: Trace | None = None
    scores: PromptScores | None = None
    reply: list[int] = field(default_factory=list)
    written: int = 0
    unsent: int = 0
    ending: FinishReason | None = None
    at_end: bool = False
    finished: bool = False
    prompt_duration: int = 0
    prompt_done: int | None = None

    @property
    def id(self) -> int:
        return self.request.id

    @property
    def is_writing(self) -> bool:
        """Whether the next evaluation only adds what was written last."""
        return self.prompt_done is not None and self.slot.pending <= _LONGEST_RUN

    @property
    def may_shift(self) -> bool:
        return self.request.shift and self.request.num_predict != _UNTIL_FULL

    def wanted(self, length: int) -> int:
        """Of the next ``length`` tokens to be evaluated, of how many of the last the logits are
        wanted."""
        end = self.slot.evaluated + length
        if self.scores is None:
            return int(end == len(self.slot.tokens))
        return max(end - max(self.slot.evaluated, self.scores.first_wanted), 0)

    def choose(self, logits: Logits, mask: Mask | None = None) -> int:
        """The next token of the reply. Changes ``logits``. Raises ``BrokenLogits``."""
        if self.trace is None:
            return self.sampler.sample(logits, mask)
        computed = logits.copy()
        token = self.sampler.sample(logits, mask)
        self.trace.chose(token, computed)
        return token

    def finish_text(self) -> str:
        """The text that is still held back at the end of the reply."""
        if self.trace is None:
            return self.text.finish()
        return self.trace.finish(with_end=self.at_end and self.request.tell_end)

    def kept(self, piece: Callable[[int], bytes]) -> list[int]:
        """The reply's tokens without those whose text a stop string cut off entirely."""
        return self._without_last(self.text.excess, piece)

    def counted(self, piece: Callable[[int], bytes]) -> int:
        """``written`` up to the token that completed a stop string; a grammar may force more."""
        after_stop = self.text.excess - len(self.text.stop.encode())
        surplus = len(self.reply) - len(self._without_last(after_stop, piece))
        return self.written - surplus

    def _without_last(self, size: int, piece: Callable[[int], bytes]) -> list[int]:
        """The reply's tokens without those that lie in its last ``size`` bytes entirely."""
        count = len(self.reply)
        while count and size >= (length := len(piece(self.reply[count - 1]))) > 0:
            size -= length
            count -= 1
        return self.reply[:count]

    def force(self, token: int) -> None:
        """Take note of a token that is written without being chosen."""
        self.sampler.accept(token)
        if self.trace is not None:
            self.trace.forced(token)
