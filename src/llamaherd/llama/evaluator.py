"""Evaluating a batch in a llama.cpp context, which another thread may interrupt."""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np

from llamaherd.llama.backend import Batch, CacheFull, DecodeAborted, DecodeFailed, Shown
from llamaherd.llama.library import C, expect_errors, function

_decode: Final = function("llama_decode", ctypes.c_int32, ctypes.c_void_p, C.llama_batch)

# Results of llama_decode.
_NO_ROOM: Final = 1
_ABORTED: Final = 2

# What the first byte of the abort flag says.
_GO_ON: Final = b"\0"
_GIVE_UP: Final = b"\1"


class Evaluator:
    """``llama_decode`` on what ``batch`` holds at the time."""

    def __init__(self, context: Any, batch: Batch) -> None:
        self._context = context
        self._batch = batch
        self._c_batch, self._c_arrays = _point_at(batch)
        self._c_shown = C.llama_batch.from_buffer_copy(self._c_batch)
        self._c_shown.token = None
        self._abort_flag = _abort_flag(context)

    def evaluate(self) -> None:
        """Raises ``CacheFull``, ``DecodeAborted`` or ``DecodeFailed``."""
        shown = self._batch.shown
        result = self._decode_tokens() if shown is None else self._decode_shown(shown)
        if self._abort_flag[0] != _GO_ON:
            self._abort_flag[0] = _GO_ON
            expect_errors(False)
        if result == 0:
            return
        if result == _NO_ROOM:
            raise CacheFull
        if result == _ABORTED:
            raise DecodeAborted
        raise DecodeFailed(f"llama.cpp could not evaluate the batch (llama_decode: {result})")

    def _decode_tokens(self) -> int:
        self._c_batch.n_tokens = self._batch.size
        return int(_decode(self._context, self._c_batch))

    def _decode_shown(self, shown: Shown) -> int:
        c_batch = self._c_shown
        c_batch.n_tokens = self._batch.size
        embeddings = np.ascontiguousarray(shown.embeddings, np.float32)
        positions = np.ascontiguousarray(shown.positions, np.int32)
        c_batch.embd = embeddings.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        c_batch.pos = positions.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        if not shown.mutual:
            return int(_decode(self._context, c_batch))
        C.llama_set_causal_attn(self._context, False)
        try:
            return int(_decode(self._context, c_batch))
        finally:
            C.llama_set_causal_attn(self._context, True)

    def abort(self) -> None:
        """Make the running evaluation, if any, give up soon. Callable from any thread.

        If there is none, or it ends meanwhile, the next one gives up, and no further one.
        """
        expect_errors(True)
        self._abort_flag[0] = _GIVE_UP


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
