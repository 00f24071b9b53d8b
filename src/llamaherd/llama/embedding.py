"""Llama.cpp contexts as ``VectorBackend``: one that pools, one that takes the last token."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from llamaherd.llama.backend import Batch, DecodeFailed, Vector
from llamaherd.llama.binding import LlamaBackend
from llamaherd.llama.evaluator import Evaluator
from llamaherd.llama.library import C, function
from llamaherd.llama.vocabulary import Vocabulary

_vector_of_row: Final = function(
    "llama_get_embeddings_ith", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32
)
_vector_of_sequence: Final = function(
    "llama_get_embeddings_seq", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32
)


class PooledBackend:
    """A model that looks at a text from both sides, or makes one vector of those of all tokens.

    Owns a model and its context, which was made for embeddings; ``close`` frees them. Such models
    mostly have no memory at all. If they have one, nothing stays in it from batch to batch.

    ``n_ctx`` is the longest sequence. A model that ranks gives a number for each of its classes.
    """

    whole = True

    def __init__(self, model: Any, context: Any, *, n_ctx: int) -> None:
        self._model = model
        self._context = context
        self._memory = C.llama_get_memory(context)
        self.vocabulary: Final = Vocabulary(C.llama_model_get_vocab(model))
        self.n_vocab = self.vocabulary.size
        self.n_ctx = n_ctx
        self.ranks = C.llama_pooling_type(context) == C.LLAMA_POOLING_TYPE_RANK
        template = C.llama_model_chat_template(model, b"rerank")
        self.rank_template: str | None = template.decode("utf-8", "replace") if template else None
        width = C.llama_model_n_cls_out(model) if self.ranks else C.llama_model_n_embd_out(model)
        self.width = int(width)
        self.slots: Sequence[int] = range(int(C.llama_n_seq_max(context)))
        self.batch = Batch(int(C.llama_n_batch(context)))
        self._evaluator = Evaluator(context, self.batch)
        self.abort = self._evaluator.abort

    def read(self) -> None:
        raise DecodeFailed("this model takes a text in one piece")

    def embed(self) -> None:
        # All tokens go into what is pooled, and llama.cpp would complain about each that isn't
        # marked.
        self.batch.wanted[: self.batch.size] = 1
        self._clear()
        self._evaluator.evaluate()
        C.llama_synchronize(self._context)

    def vector(self, slot: int, row: int) -> Vector:
        return _view(_vector_of_sequence(self._context, slot), self.width)

    def forget(self, slot: int) -> None:
        """There is nothing to forget until the next batch."""

    def _clear(self) -> None:
        if self._memory:
            C.llama_memory_clear(self._memory, False)

    def close(self) -> None:
        """Free context, adapters and model."""
        if self._context is not None:
            C.llama_free(self._context)
            C.llama_model_free(self._model)
            self._context = self._model = None


class LastTokenBackend:
    """The vector of a text is what the model has at its last token, where it would write on.

    So it is for models of one direction that pool so, and for those that weren't made for
    embeddings. They use the context in which text is written, beside the requests that write: its
    memory is unified, so only its sequences are set aside. Vectors are switched on for the last
    tokens alone; llama.cpp would otherwise compute vector and logits of every token.
    """

    whole = False
    ranks = False
    rank_template: str | None = None

    def __init__(self, backend: LlamaBackend) -> None:
        self._backend = backend
        self._context = backend.context
        self.vocabulary = backend.vocabulary
        self.n_ctx = backend.n_ctx
        self.width = int(C.llama_model_n_embd_out(backend.model))
        self.slots: Sequence[int] = range(backend.n_seq, backend.n_seq + backend.n_embed)
        self.batch = backend.batch
        self.abort = backend.abort

    def read(self) -> None:
        self._backend.decode()
        self._backend.wait()

    def embed(self) -> None:
        C.llama_set_embeddings(self._context, True)
        try:
            self._backend.decode()
            self._backend.wait()
        finally:
            C.llama_set_embeddings(self._context, False)

    def vector(self, slot: int, row: int) -> Vector:
        return _view(_vector_of_row(self._context, row), self.width)

    def forget(self, slot: int) -> None:
        self._backend.truncate(slot, 0)


def _view(address: int | None, width: int) -> Vector:
    if address is None:
        raise DecodeFailed("llama.cpp has no vector for a sequence of the batch")
    return np.ctypeslib.as_array((ctypes.c_float * width).from_address(address))
