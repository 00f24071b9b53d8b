"""How the next token is chosen from the logits.

The order is Ollama's: bias, penalties, top-k, typical, top-p, min-p, temperature, then a draw.
The steps from top-k on run in llama.cpp. What comes before touches few of the logits, so it is done
in place, and only the candidates that top-k can choose are handed on: with a vocabulary of 128,000
that is thirty times faster than the whole chain over all of it.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from llamaherd.llama.backend import Backend, InvalidToken, Logits, Step, TokenIds
from llamaherd.runner.protocol import Sampling

#: llama.cpp takes this seed as a request for a random one.
_RANDOM_SEED: Final = 0xFFFFFFFF

#: Below this, dividing logits by the temperature could overflow; the choice is the greedy one.
_LOWEST_TEMPERATURE: Final = 1e-5

#: Vocabularies up to this size are handed on whole: choosing candidates would cost more.
_SMALL_VOCABULARY: Final = 4096

#: Logits are looked at in blocks of this many to bound the k-th largest from below.
_BLOCK: Final = 64


class BrokenLogits(Exception):
    """The model computed no usable probabilities."""


@dataclass(frozen=True, slots=True)
class Mask:
    """Which tokens may be chosen: ``ids`` alone if ``only``, else all others; the shorter list."""

    ids: TokenIds
    only: bool

    @classmethod
    def from_bits(cls, bits: npt.NDArray[np.uint8], n_vocab: int) -> Mask:
        """From one bit for each token, the lowest of a byte first; 1 allows it."""
        allowed = np.unpackbits(bits, bitorder="little", count=n_vocab)
        only = 2 * int(np.count_nonzero(allowed)) <= n_vocab
        return cls(np.flatnonzero(allowed if only else allowed == 0).astype(np.int32), only)


class TokenSampler:
    """Chooses the tokens of one reply to ``prompt``. ``close`` frees what it holds in llama.cpp.

    Raises ``InvalidToken`` when ``logit_bias`` names a token outside the vocabulary.
    """

    def __init__(self, options: Sampling, backend: Backend, prompt: Sequence[int]) -> None:
        self._bias = _Bias(options.logit_bias, backend.n_vocab) if options.logit_bias else None
        self._penalties = _penalties(options, backend, prompt)
        small = backend.n_vocab <= _SMALL_VOCABULARY
        self._preselect = 0 if small or options.mirostat else max(options.top_k, 0)
        greedy = options.temperature < _LOWEST_TEMPERATURE
        self._chain = None if greedy else backend.chain(chain_steps(options))

    def sample(self, logits: Logits, mask: Mask | None = None) -> int:
        """The next token. Changes ``logits``. Raises ``BrokenLogits`` when there is none."""
        if self._bias is not None:
            self._bias.apply(logits)
        if self._penalties is not None:
            self._penalties.apply(logits)
        if mask is None:
            token = self._choose(logits, None)
        elif mask.only:
            token = self._choose(logits[mask.ids], mask.ids)
        else:
            logits[mask.ids] = -np.inf
            token = self._choose(logits, None)
        if not logits[token] > -np.inf:
            raise BrokenLogits("the model computed no valid probabilities for the next token")
        self.accept(token)
        return token

    def accept(self, token: int) -> None:
        """Count a token of the reply that was not sampled."""
        if self._penalties is not None:
            self._penalties.accept(token)

    def close(self) -> None:
        if self._chain is not None:
            self._chain.close()

    def _choose(self, logits: Logits, ids: TokenIds | None) -> int:
        """Of the tokens ``ids``, or of all; ``logits`` has just theirs."""
        if self._chain is None or len(logits) == 1:
            best = int(logits.argmax())
            return best if ids is None else int(ids[best])
        if not self._preselect:
            return self._chain.pick(logits, ids)
        top = top_candidates(logits, self._preselect)
        return self._chain.pick(logits[top], top if ids is None else ids[top])


def chain_steps(options: Sampling) -> tuple[Step, ...]:
    """The steps in llama.cpp, those that change nothing left out."""
    seed = _seed(options.seed)
    temperature = Step("temp", (options.temperature,))
    if options.mirostat:
        name: Literal["mirostat", "mirostat_v2"] = (
            "mirostat" if options.mirostat == 1 else "mirostat_v2"
        )
        return temperature, Step(name, (seed, options.mirostat_tau, options.mirostat_eta))
    steps = []
    if options.top_k > 0:
        steps.append(Step("top_k", (options.top_k,)))
    if options.typical_p < 1:
        steps.append(Step("typical", (options.typical_p,)))
    if options.top_p < 1:
        steps.append(Step("top_p", (options.top_p,)))
    if options.min_p > 0:
        steps.append(Step("min_p", (options.min_p,)))
    return *steps, temperature, Step("dist", (seed,))


def top_candidates(logits: Logits, k: int) -> TokenIds:
    """Tokens that include the ``k`` with the highest logits, and few more.

    The k-th largest maximum of disjoint blocks is a bound that at least k logits reach; finding it
    and comparing takes two vectorised passes, where selecting takes a comparison per logit.
    """
    n_blocks = len(logits) // _BLOCK
    if k >= n_blocks:
        return np.arange(len(logits), dtype=np.int32)
    maxima = logits[: n_blocks * _BLOCK].reshape(_BLOCK, n_blocks).max(axis=0)
    bound = np.partition(maxima, n_blocks - k)[n_blocks - k]
    return np.flatnonzero(logits >= bound).astype(np.int32)


def _seed(seed: int) -> int:
    """llama.cpp's seeds have 32 bits, of which one value means random; -1 draws a new one."""
    if seed == -1:
        return secrets.randbelow(_RANDOM_SEED)
    seed &= 0xFFFFFFFF
    return seed if seed != _RANDOM_SEED else _RANDOM_SEED - 1


class _Bias:
    def __init__(self, bias: Mapping[int, float], n_vocab: int) -> None:
        for token in bias:
            if not 0 <= token < n_vocab:
                raise InvalidToken(f"logit_bias names token {token}, there are {n_vocab}")
        self._ids = np.fromiter(bias.keys(), np.intp, len(bias))
        self._values = np.fromiter(bias.values(), np.float32, len(bias))

    def apply(self, logits: Logits) -> None:
        logits[self._ids] += self._values


def _penalties(options: Sampling, backend: Backend, prompt: Sequence[int]) -> _Penalties | None:
    last_n = backend.n_ctx if options.repeat_last_n < 0 else options.repeat_last_n
    # A factor of 0 would divide by zero; like 1 it means no penalty.
    repeat = options.repeat_penalty or 1.0
    off = repeat == 1 and not options.frequency_penalty and not options.presence_penalty
    if last_n == 0 or off:
        return None
    exempt = None if options.penalize_newline else backend.newline
    penalties = _Penalties(
        last_n, repeat, options.frequency_penalty, options.presence_penalty, exempt
    )
    for token in prompt[-last_n:]:
        penalties.accept(token)
    return penalties


class _Penalties:
    """Makes the tokens among the ``last_n`` of prompt and reply less likely.

    The formulas are llama.cpp's (``llama_sampler_penalties_apply``): a positive logit is divided by
    ``repeat`` and a negative one multiplied, then ``frequency`` times the count and ``presence``
    are taken off.
    """

    def __init__(
        self, last_n: int, repeat: float, frequency: float, presence: float, exempt: int | None
    ) -> None:
        self._window: deque[int] = deque(maxlen=last_n)
        self._counts: dict[int, int] = {}
        self._repeat = np.float32(repeat)
        self._frequency = np.float32(frequency)
        self._presence = np.float32(presence)
        self._additive = bool(frequency or presence)
        self._exempt = exempt

    def accept(self, token: int) -> None:
        window, counts = self._window, self._counts
        if len(window) == window.maxlen:
            self._forget(window[0])
        window.append(token)
        if token != self._exempt:
            counts[token] = counts.get(token, 0) + 1

    def _forget(self, token: int) -> None:
        if token == self._exempt:
            return
        left = self._counts[token] - 1
        if left:
            self._counts[token] = left
        else:
            del self._counts[token]

    def apply(self, logits: Logits) -> None:
        counts = self._counts
        ids = np.fromiter(counts, np.intp, len(counts))
        values = logits[ids]
        values = np.where(values > 0, values / self._repeat, values * self._repeat)
        if self._additive:
            number = np.fromiter(counts.values(), np.float32, len(counts))
            values -= number * self._frequency + self._presence
        logits[ids] = values
