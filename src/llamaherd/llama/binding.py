"""A llama.cpp context as the engine's ``Backend``."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from llamaherd.llama.backend import Batch, DecodeFailed, Logits, Step
from llamaherd.llama.evaluator import Evaluator
from llamaherd.llama.library import C, function
from llamaherd.llama.samplers import CandidateArray, SamplerChain
from llamaherd.llama.vocabulary import Vocabulary

_logits_of_row: Final = function(
    "llama_get_logits_ith", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32
)


class LlamaBackend:
    """Owns a model, its context and adapters; ``close`` frees them.

    ``n_ctx`` is the longest sequence that the engine may make; the context holds more, for several
    sequences together. Behind the engine's ``n_seq`` sequences it has ``n_embed`` for embeddings.
    ``n_outputs`` is that of the context's parameters, which llama.cpp doesn't tell.
    """

    def __init__(
        self,
        model: Any,
        context: Any,
        *,
        n_ctx: int,
        n_embed: int,
        n_outputs: int,
        asynchronous: bool,
    ) -> None:
        self.model = model
        self.context = context
        self._memory = C.llama_get_memory(context)
        self.vocabulary: Final = Vocabulary(C.llama_model_get_vocab(model))
        self.n_ctx = n_ctx
        self.n_seq = int(C.llama_n_seq_max(context)) - n_embed
        self.n_embed = n_embed
        self.n_outputs = n_outputs
        self.n_vocab = self.vocabulary.size
        self.bos = self.vocabulary.bos
        self.add_bos = self.vocabulary.add_bos
        self.newline = self.vocabulary.newline
        self.asynchronous = asynchronous
        self.can_shift = bool(C.llama_memory_can_shift(self._memory))
        self.piece = self.vocabulary.piece
        self.is_end = self.vocabulary.is_end
        self.token_table = self.vocabulary.table
        self._forgets = not (C.llama_model_is_recurrent(model) or C.llama_model_is_hybrid(model))
        self._window = int(C.llama_model_n_swa(model))
        self.batch = Batch(int(C.llama_n_batch(context)))
        self._evaluator = Evaluator(context, self.batch)
        self.abort = self._evaluator.abort
        self._candidates = CandidateArray(self.n_vocab)
        self._views: dict[int, Logits] = {}

    def decode(self) -> None:
        self._evaluator.evaluate()

    def wait(self) -> None:
        C.llama_synchronize(self.context)

    def logits(self, row: int) -> Logits:
        address = _logits_of_row(self.context, row)
        if address is None:
            raise DecodeFailed(f"llama.cpp has no logits for row {row} of the batch")
        view = self._views.get(address)
        if view is None:
            # Making a view costs more than all else here, and the addresses come again.
            if len(self._views) >= _MAX_VIEWS:
                self._views.clear()
            row_type = ctypes.c_float * self.n_vocab
            view = self._views[address] = np.ctypeslib.as_array(row_type.from_address(address))
        return view

    def chain(self, steps: Sequence[Step]) -> SamplerChain:
        return SamplerChain(self.n_vocab, self._candidates, steps)

    def can_truncate(self, slot: int, length: int) -> bool:
        if length == 0:
            return True
        last = C.llama_memory_seq_pos_max(self._memory, slot)
        if last + 1 == length:
            return True
        if last < 0 or not self._forgets:
            return False
        # Of a sliding window, all that the next token looks back on must still be there.
        first = C.llama_memory_seq_pos_min(self._memory, slot)
        return bool(first == 0 or (self._window > 0 and first <= length - self._window))

    def truncate(self, slot: int, length: int) -> None:
        if not C.llama_memory_seq_rm(self._memory, slot, length, -1):
            raise DecodeFailed(f"llama.cpp could not truncate a sequence to {length} tokens")

    def copy(self, source: int, target: int, length: int) -> None:
        C.llama_memory_seq_cp(self._memory, source, target, 0, length)

    def shift(self, slot: int, keep: int, discard: int) -> None:
        C.llama_memory_seq_rm(self._memory, slot, keep, keep + discard)
        C.llama_memory_seq_add(self._memory, slot, keep + discard, -1, -discard)

    def close(self) -> None:
        """Free context, adapters and model."""
        if self.context is not None:
            C.llama_free(self.context)
            C.llama_model_free(self.model)
            self.context = self.model = None


#: Views of logits to remember; a step needs one per sequence that it writes for.
_MAX_VIEWS: Final = 256
