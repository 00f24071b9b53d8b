"""How likely the tokens of a reply were, told together with their text, and those of a prompt.

The probabilities are the model's own, the softmax of the logits as it computed them: before bias,
penalties, temperature and the choice of candidates, as Ollama and llama.cpp's server tell them. A
token that a grammar forces is written without asking the model, so its probability is 1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from llamaherd.engine.sampling import top_candidates
from llamaherd.engine.stopping import ReplyText
from llamaherd.events import Likelihood, ReadToken, WrittenToken
from llamaherd.llama.backend import Logits, TokenIds

#: Stands for tokens that the model excludes, as in OpenAI's API: JSON has no infinity.
EXCLUDED: Final = -9999.0


class Trace:
    """The tokens of one reply: first chosen, then put into its ``text``, at last taken from here.

    A token can be taken when all of its text has been given out. So those that a stop string cuts,
    even in part, never are.
    """

    def __init__(self, text: ReplyText, n_top: int, piece: Callable[[int], bytes]) -> None:
        self._text = text
        self._n_top = n_top
        self._piece = piece
        self._chosen: deque[WrittenToken] = deque()
        #: Tokens in the text, each with the number of characters up to its end.
        self._placed: deque[tuple[int, WrittenToken]] = deque()
        self._given = 0

    def chose(self, token: int, logits: Logits) -> None:
        """A token was chosen where the model computed ``logits``."""
        logprob, top = judge(token, logits, self._n_top, self._piece)
        self._chosen.append(WrittenToken(self._piece(token), logprob, top))

    def forced(self, token: int) -> None:
        """A token was written because nothing else was allowed."""
        self._chosen.append(WrittenToken(self._piece(token), 0.0))

    def push(self, count: int) -> str:
        """Put the next ``count`` tokens into the text; what of it is final."""
        texts = []
        for _ in range(count):
            token = self._chosen.popleft()
            text = self._text.push(token.piece)
            texts.append(text)
            self._given += len(text)
            if not self._text.stopped:
                self._placed.append((self._given + self._text.pending, token))
        return "".join(texts)

    def finish(self, *, with_end: bool = False) -> str:
        """The text still held back.

        ``with_end`` has the token that ended the reply, chosen and never put into the text, taken
        as the last one.
        """
        text = self._text.finish()
        self._given += len(text)
        if with_end and not self._text.stopped:
            self._placed.append((self._given, self._chosen.popleft()))
        return text

    def take(self) -> list[WrittenToken]:
        """The tokens whose text has been given out since the last time."""
        taken = []
        while self._placed and self._placed[0][0] <= self._given:
            taken.append(self._placed.popleft()[1])
        return taken


class PromptScores:
    """The tokens of one prompt, told in their order while it is read.

    What the model computed for a token says how likely the next one was. So nothing is kept but
    how many were told, and a part that must be read again isn't told again.
    """

    def __init__(self, prompt: Sequence[int], n_top: int, piece: Callable[[int], bytes]) -> None:
        self._prompt = prompt
        self._n_top = n_top
        self._piece = piece
        self._told = 0

    @property
    def complete(self) -> bool:
        """Whether all tokens have been told."""
        return self._told == len(self._prompt)

    @property
    def first_wanted(self) -> int:
        """The place from which on the logits of every token are wanted."""
        return max(self._told - 1, 0)

    def read(self, start: int, end: int, logits: Callable[[int], Logits]) -> list[ReadToken]:
        """The tokens that can be told once the model has read those from ``start`` up to ``end``.

        ``logits`` gives what it computed for the token at a place, from ``first_wanted`` on.
        """
        tokens = []
        if self._told == 0:
            tokens.append(ReadToken(self._piece(self._prompt[0]), None))
        for place in range(max(start, self.first_wanted), min(end, len(self._prompt) - 1)):
            token = self._prompt[place + 1]
            logprob, top = judge(token, logits(place), self._n_top, self._piece)
            tokens.append(ReadToken(self._piece(token), logprob, top))
        self._told += len(tokens)
        return tokens


def judge(
    token: int, logits: Logits, n_top: int, piece: Callable[[int], bytes]
) -> tuple[float, tuple[Likelihood, ...]]:
    """The log-probability of a token at the place of ``logits``, and the ``n_top`` likeliest."""
    total = log_sum_exp(logits)

    def logprob(token: int) -> float:
        return max(float(logits[token]) - total, EXCLUDED)

    likeliest = most_likely(logits, n_top).tolist()
    return logprob(token), tuple(Likelihood(piece(other), logprob(other)) for other in likeliest)


def log_sum_exp(logits: Logits) -> float:
    """The logarithm of the sum of the exponentials: what turns a logit into a log-probability."""
    highest = logits.max()
    shifted = logits - highest
    return float(highest) + float(np.log(np.exp(shifted, out=shifted).sum()))


def most_likely(logits: Logits, n: int) -> TokenIds:
    """The ``n`` tokens with the highest logits, the highest first; the lower number where equal."""
    if n == 0:
        return np.empty(0, np.int32)
    candidates = top_candidates(logits, n)
    return candidates[np.argsort(-logits[candidates], kind="stable")[:n]]
