"""llama.cpp's sampler chains over candidates that the engine chooses."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from llamaherd.llama.backend import Logits, Step, TokenIds
from llamaherd.llama.library import C, function

#: ``llama_token_data``: the token, its logit, its probability.
_CANDIDATE: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])

_apply: Final = function("llama_sampler_apply", None, ctypes.c_void_p, ctypes.c_void_p)

#: Keep at least this many candidates, whatever the probabilities.
_MIN_KEEP: Final = 1

#: The number of candidates from which mirostat 1 estimates its constant, as in its paper.
_MIROSTAT_M: Final = 100


class CandidateArray:
    """The one ``llama_token_data_array`` that all chains of a model work on, one at a time."""

    def __init__(self, n_vocab: int) -> None:
        self._all_ids = np.arange(n_vocab, dtype=np.int32)
        self._data = np.zeros(n_vocab, _CANDIDATE)
        self._ids, self.logits = self._data["id"], self._data["logit"]
        self._array = C.llama_token_data_array()
        self._pointer = self._data.ctypes.data_as(ctypes.POINTER(C.llama_token_data))
        self.reference: Final = ctypes.byref(self._array)

    def fill(self, logits: Logits, ids: TokenIds | None) -> None:
        size = len(logits)
        self._ids[:size] = self._all_ids if ids is None else ids
        self.logits[:size] = logits
        array = self._array
        # Samplers may leave the pointer, the order and the size changed.
        array.data = self._pointer
        array.size = size
        array.selected = -1
        array.sorted = False

    def selected(self) -> int:
        chosen = self._array.selected
        if not 0 <= chosen < self._array.size:
            raise ArithmeticError("no candidate could be chosen")
        return int(self._array.data[chosen].id)


class SamplerChain:
    """A ``llama_sampler_chain`` with its own random numbers."""

    def __init__(self, n_vocab: int, candidates: CandidateArray, steps: Sequence[Step]) -> None:
        self._candidates = candidates
        self._chain = C.llama_sampler_chain_init(C.llama_sampler_chain_default_params())
        for step in steps:
            C.llama_sampler_chain_add(self._chain, _build(step, n_vocab))

    def pick(self, logits: Logits, ids: TokenIds | None) -> int:
        self._candidates.fill(logits, ids)
        _apply(self._chain, self._candidates.reference)
        return self._candidates.selected()

    def close(self) -> None:
        if self._chain is not None:
            C.llama_sampler_free(self._chain)
            self._chain = None

    def __del__(self) -> None:
        self.close()


def _build(step: Step, n_vocab: int) -> Any:
    return _BUILDERS[step.name](n_vocab, *step.arguments)


_BUILDERS: Final[dict[str, Callable[..., Any]]] = {
    "top_k": lambda _, k: C.llama_sampler_init_top_k(int(k)),
    "typical": lambda _, p: C.llama_sampler_init_typical(p, _MIN_KEEP),
    "top_p": lambda _, p: C.llama_sampler_init_top_p(p, _MIN_KEEP),
    "min_p": lambda _, p: C.llama_sampler_init_min_p(p, _MIN_KEEP),
    "temp": lambda _, temperature: C.llama_sampler_init_temp(temperature),
    "dist": lambda _, seed: C.llama_sampler_init_dist(int(seed)),
    "mirostat": lambda n_vocab, seed, tau, eta: C.llama_sampler_init_mirostat(
        n_vocab, int(seed), tau, eta, _MIROSTAT_M
    ),
    "mirostat_v2": lambda _, seed, tau, eta: C.llama_sampler_init_mirostat_v2(int(seed), tau, eta),
}
