"""A llama.cpp context as the engine's ``Backend``."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from llamaherd.llama.backend import (
    Batch,
    CacheFull,
    DecodeAborted,
    DecodeFailed,
    Logits,
    Step,
)
from llamaherd.llama.library import C, expect_errors, function
from llamaherd.llama.samplers import CandidateArray, SamplerChain
from llamaherd.llama.vocabulary import Vocabulary

_decode: Final = function("llama_decode", ctypes.c_int32, ctypes.c_void_p, C.llama_batch)
_logits_of_row: Final = function(
    "llama_get_logits_ith", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32
)

# Results of llama_decode.
_NO_ROOM: Final = 1
_ABORTED: Final = 2


class LlamaBackend:
    """Owns a model, its context and adapters; ``close`` frees them.

    ``n_ctx`` is the longest sequence that the engine may make; the context holds more, for several
    sequences together.
    """

    def __init__(self, model: Any, context: Any, *, n_ctx: int, asynchronous: bool) -> None:
        self._model = model
        self._context = context
        self._memory = C.llama_get_memory(context)
        self.vocabulary: Final = Vocabulary(C.llama_model_get_vocab(model))
        self.n_ctx = n_ctx
        self.n_seq = int(C.llama_n_seq_max(context))
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
        self._c_batch, self._c_arrays = _point_at(self.batch)
        self._candidates = CandidateArray(self.n_vocab)
        self._views: dict[int, Logits] = {}
        self._aborting = False
        self._abort_flag = _abort_flag(context)

    def decode(self) -> None:
        batch = self.batch
        self._c_batch.n_tokens = batch.size
        result = _decode(self._context, self._c_batch)
        if self._aborting:
            self._aborting = False
            self._abort_flag[0] = 0
            expect_errors(False)
        if result == 0:
            return
        if result == _NO_ROOM:
            raise CacheFull
        if result == _ABORTED:
            raise DecodeAborted
        raise DecodeFailed(f"llama.cpp could not evaluate the batch (llama_decode: {result})")

    def wait(self) -> None:
        C.llama_synchronize(self._context)

    def logits(self, row: int) -> Logits:
        address = _logits_of_row(self._context, row)
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

    def abort(self) -> None:
        expect_errors(True)
        self._aborting = True
        self._abort_flag[0] = 1

    def can_truncate(self, slot: int, length: int) -> bool:
        if length == 0:
            return True
        last = C.llama_memory_seq_pos_max(self._memory, slot)
        if last + 1 == length:
            return True
        if last + 1 < length or not self._forgets:
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
        if self._context is not None:
            C.llama_free(self._context)
            C.llama_model_free(self._model)
            self._context = self._model = None


#: Views of logits to remember; a step needs one per sequence that it writes for.
_MAX_VIEWS: Final = 256


def _point_at(batch: Batch) -> tuple[Any, Any]:
    """A ``llama_batch`` over the arrays of ``batch``, each row in one sequence.

    Also the arrays that only C sees, for the caller to keep alive.
    """
    c_batch = C.llama_batch()
    c_batch.token = batch.tokens.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
    c_batch.pos = batch.positions.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
    c_batch.logits = batch.wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))
    counts = np.ones(batch.capacity, np.int32)
    slots = batch.slots
    addresses = slots.ctypes.data + slots.itemsize * np.arange(batch.capacity, dtype=np.uint64)
    pointer = ctypes.POINTER(ctypes.c_int32)
    c_batch.n_seq_id = counts.ctypes.data_as(pointer)
    c_batch.seq_id = addresses.ctypes.data_as(ctypes.POINTER(pointer))
    return c_batch, (counts, addresses)


def _abort_flag(context: Any) -> Any:
    """A buffer whose first byte, when not 0, makes a running decode give up.

    llama.cpp asks its abort callback before every node of the graph. Asking Python each time would
    cost more than a small model's whole token, so the callback is C's ``strlen`` on two bytes: its
    result is false for an empty string and true for one of length 1.
    """
    flag = (ctypes.c_char * 2)()
    callback = ctypes.cast(ctypes.CDLL(None).strlen, C.ggml_abort_callback)
    C.llama_set_abort_callback(context, callback, ctypes.cast(flag, ctypes.c_void_p))
    return flag
