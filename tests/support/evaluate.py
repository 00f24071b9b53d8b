"""What llama.cpp makes of a model file: logits, vectors and tokens, by its C functions."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llamaherd.llama.library import C, LoadLog, initialise
from llamaherd.llama.vocabulary import Vocabulary


@contextmanager
def _model(path: Path, *, vocab_only: bool = False) -> Iterator[Any]:
    initialise(numa=False)
    params = C.llama_model_default_params()
    params.vocab_only = vocab_only
    params.n_gpu_layers = 0
    params.use_extra_bufts = False
    with LoadLog() as log:
        model = C.llama_model_load_from_file(bytes(path), params)
    assert model, log.errors
    try:
        yield model
    finally:
        C.llama_model_free(model)


def evaluate(
    path: Path, tokens: Sequence[int], *, vectors: bool = False, adapters: Sequence[Path] = ()
) -> npt.NDArray[np.float32]:
    """A row for each token: the logits after it, or its vector."""
    with _model(path) as model, LoadLog():
        params = C.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = params.n_outputs_max = 64
        params.n_threads = params.n_threads_batch = 1
        params.type_k = params.type_v = 0
        params.flash_attn_type = C.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.embeddings = vectors
        params.pooling_type = C.LLAMA_POOLING_TYPE_NONE
        context = C.llama_init_from_model(model, params)
        try:
            _apply(model, context, adapters)
            return _rows(model, context, tokens, vectors)
        finally:
            C.llama_free(context)


def _apply(model: Any, context: Any, adapters: Sequence[Path]) -> None:
    loaded = (C.llama_adapter_lora_p_ctypes * len(adapters))()
    for index, path in enumerate(adapters):
        loaded[index] = C.llama_adapter_lora_init(model, bytes(path))
        assert loaded[index], f"llama.cpp refuses {path}"
    scales = (ctypes.c_float * len(adapters))(*[1.0] * len(adapters))
    assert C.llama_set_adapters_lora(context, loaded, len(adapters), scales) == 0


def _rows(
    model: Any, context: Any, tokens: Sequence[int], vectors: bool
) -> npt.NDArray[np.float32]:
    batch = C.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for index, token in enumerate(tokens):
        batch.token[index] = token
        batch.pos[index] = index
        batch.n_seq_id[index] = 1
        batch.seq_id[index][0] = 0
        batch.logits[index] = True
    assert C.llama_decode(context, batch) == 0
    C.llama_batch_free(batch)
    if vectors:
        width, read = C.llama_model_n_embd(model), C.llama_get_embeddings_ith
    else:
        width, read = C.llama_vocab_n_tokens(C.llama_model_get_vocab(model)), C.llama_get_logits_ith
    rows = [
        np.ctypeslib.as_array(
            ctypes.cast(read(context, i), ctypes.POINTER(ctypes.c_float)), (width,)
        )
        for i in range(len(tokens))
    ]
    return np.array(rows, np.float32)


@contextmanager
def vocabulary(path: Path) -> Iterator[Vocabulary]:
    with _model(path, vocab_only=True) as model:
        yield Vocabulary(C.llama_model_get_vocab(model))
