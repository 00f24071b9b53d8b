"""Replies that follow a grammar: which tokens may come next, and which must.

llguidance does the work. Its masks are computed in threads of their own, beside the evaluation of
the model: the engine asks for the next one as soon as a token is chosen and needs it a step later.
A form that can't be kept is found out while the prompt is being read.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from llamaherd.engine.compiler import Compiler
from llamaherd.engine.sampling import Mask
from llamaherd.errors import FormatError
from llamaherd.grammar import Form
from llamaherd.llama.backend import Backend
from llamaherd.llama.stack import LONGEST_FORCED

if TYPE_CHECKING:
    from llguidance import LLMatcher

#: Masks are short work, but a hostile grammar's may take a second: it mustn't hold up the others.
_MASK_THREADS: Final = 4

#: How far grammars stand back for llama.cpp's threads, as ``nice`` counts. It matters where both
#: want all cores; beside an idle core, or with nothing to evaluate, grammars are as fast as ever.
_NICENESS: Final = 10

#: llguidance's word for: no token is allowed, and the grammar isn't satisfied yet.
_DEAD_END: Final = "NoExtension"
_UNSPELLABLE: Final = "forced bytes"


class Grammars:
    """Makes the constraints of a model's replies; its tokenizer is built when first needed."""

    def __init__(self, backend: Backend) -> None:
        self._compiler = ThreadPoolExecutor(1, "grammar", _stand_back)
        self._masks = ThreadPoolExecutor(_MASK_THREADS, "mask", _stand_back)
        self._compile = Compiler(backend)
        self._n_vocab = backend.n_vocab

    def constraint(self, grammar: Form) -> Constraint:
        """A new reply's constraint; it becomes ready in the background."""
        compiling = self._compiler.submit(self._compile.matcher, grammar)
        return Constraint(compiling, self._masks, self._n_vocab)


def _stand_back() -> None:
    """Lower the priority of this thread; only Linux has one for each."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        niceness = os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS
        os.setpriority(os.PRIO_PROCESS, thread, niceness)


class Constraint:
    """What a reply's grammar says about its next token. Belongs to one thread.

    ``opening``, ``mask`` and ``accept`` may be called while ``is_ready``, which is true again some
    time after each ``accept``. They raise ``FormatError`` where the grammar can't be kept.
    """

    def __init__(
        self, compiling: Future[LLMatcher], threads: ThreadPoolExecutor, n_vocab: int
    ) -> None:
        self._compiling = compiling
        self._threads = threads
        self._n_vocab = n_vocab
        self._started = False
        self._next: Future[Mask] | None = None
        #: Whether the reply is complete, so that nothing can follow.
        self.complete = False

    def is_ready(self) -> bool:
        """Whether the next tokens are known."""
        return self._pending.done()

    @property
    def failure(self) -> BaseException | None:
        """Why there is no grammar, as far as that is known by now."""
        return self._compiling.exception() if self._compiling.done() else None

    @property
    def _pending(self) -> Future[Any]:
        return self._next if self._next is not None else self._compiling

    def opening(self) -> list[int]:
        """The tokens that every reply begins with; nothing when asked again."""
        if self._started:
            return []
        self._started = True
        return self._proceed(self._compiling.result())

    def mask(self) -> Mask:
        """The tokens that may come next."""
        assert self._next is not None, "there is an opening to be taken first"
        return self._next.result()

    def accept(self, token: int) -> list[int]:
        """Go on after ``token``, which the mask allows; the tokens that must follow it."""
        matcher = self._compiling.result()
        matcher.consume_token(token)
        return self._proceed(matcher)

    def close(self) -> None:
        self._pending.cancel()

    def _proceed(self, matcher: LLMatcher) -> list[int]:
        forced = [] if matcher.is_stopped() else _forced(matcher)
        if forced:
            matcher.consume_tokens(forced)
        _check(matcher)
        self.complete = matcher.is_stopped()
        if not self.complete:
            self._next = self._threads.submit(_mask, matcher, self._n_vocab)
        return forced


def _forced(matcher: LLMatcher) -> list[int]:
    size = len(matcher.compute_ff_bytes())
    if size > LONGEST_FORCED:
        raise FormatError(
            f"the reply can't follow its format: a text of {size} bytes would have to follow,"
            f" at most {LONGEST_FORCED} can be tokenized"
        )
    return matcher.compute_ff_tokens()


def wait_for_any(constraints: Iterable[Constraint], seconds: float) -> None:
    """Until one of them is ready, at most so long."""
    wait([constraint._pending for constraint in constraints], seconds, FIRST_COMPLETED)


def _mask(matcher: LLMatcher, n_vocab: int) -> Mask:
    bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
    _check(matcher)
    return Mask.from_bits(bits, n_vocab)


def _check(matcher: LLMatcher) -> None:
    if not matcher.is_error():
        return
    reason, _, _ = matcher.get_error().partition("\n")
    if reason.startswith(_DEAD_END) or _UNSPELLABLE in reason:
        reason = "no token of the model can go on from here"
    raise FormatError(f"the reply can't follow its format: {reason}")
