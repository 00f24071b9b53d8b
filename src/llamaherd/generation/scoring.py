"""A prompt that is scored: read as it is, and told token by token."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncIterator, Sequence

from msgspec import Struct

from llamaherd.errors import ContextExceeded, PromptError
from llamaherd.events import Echo, ReadToken
from llamaherd.generation.prompting import LONGEST_TEXT
from llamaherd.runner.generation import Generation as RunnerGeneration
from llamaherd.runner.process import Runner
from llamaherd.runner.protocol import Scored


class ScoredPrompt(Struct, frozen=True):
    """A prompt as text and as tokens, of which the first ``hidden`` aren't in the text."""

    text: str
    tokens: list[int]
    hidden: int


async def scored_prompt(prompt: str | list[int], runner: Runner) -> ScoredPrompt:
    """Tokens are taken as they are; a text gets BOS before it where the vocabulary wants that.

    Raises ``PromptError`` for one that can't be read, ``ContextExceeded`` for one that is too long:
    what was cut off would have no log-probabilities.
    """
    if isinstance(prompt, list):
        scored = ScoredPrompt(await runner.detokenize(prompt), prompt, 0)
    else:
        if (size := len(prompt.encode("utf-8", "replace"))) > LONGEST_TEXT:
            raise PromptError(f"the prompt has {size} bytes, at most {LONGEST_TEXT} are read")
        tokens = await runner.tokenize(prompt, add_special=False)
        opening = await runner.opening()
        hidden = 0 if tokens[: len(opening)] == opening else len(opening)
        scored = ScoredPrompt(prompt, [*opening[:hidden], *tokens], hidden)
    if len(scored.tokens) > runner.info.n_ctx:
        raise ContextExceeded(len(scored.tokens), runner.info.n_ctx)
    return scored


class ScoresOfPrompt:
    """What several replies to one prompt tell of it, though it is scored only once."""

    def __init__(self) -> None:
        self._begun = False
        self._echoes: list[Echo] = []
        self._complete = asyncio.Event()

    def begin(self) -> bool:
        """Whether nobody has begun; who has must ``read``, or end all the replies."""
        is_first = not self._begun
        self._begun = True
        return is_first

    async def read(self, prompt: ScoredPrompt, writing: RunnerGeneration) -> AsyncIterator[Echo]:
        """The parts of the prompt as the runner tells them."""
        reading = PromptReading(prompt)
        while not reading.ended:
            echo = reading.echo(await writing.scored())
            if echo.tokens:
                self._echoes.append(echo)
                yield echo
        self._complete.set()

    async def all(self) -> Sequence[Echo]:
        """All parts, once somebody has read them."""
        await self._complete.wait()
        return self._echoes


class PromptReading:
    """What the runner's messages about a prompt tell, as parts of its text.

    A SentencePiece vocabulary puts spaces before words where the text has none; they are taken off
    again. The first token has no log-probability, as nothing of the text came before it. ``ended``
    says that there are no more parts.
    """

    def __init__(self, prompt: ScoredPrompt) -> None:
        self.ended = False
        self._prompt = prompt.text
        self._hidden = prompt.hidden
        self._at = 0
        self._is_first = True
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        #: Tokens whose text is still to come whole, each with what there is of it.
        self._begun: list[tuple[ReadToken, str]] = []

    def echo(self, message: Scored) -> Echo:
        """The text that has come whole, with its tokens."""
        visible = message.tokens[self._hidden :]
        self._hidden -= len(message.tokens) - len(visible)
        whole: list[tuple[ReadToken, str]] = []
        for token in visible:
            self._read(token)
            if not self._is_inside_character():
                whole += self._begun
                self._begun.clear()
        text = "".join(part for _, part in whole)
        if message.is_last:
            self.ended = True
            whole += self._begun
            text += "".join(part for _, part in self._begun) + self._decoder.decode(b"", True)
        return Echo(text, tuple(token for token, _ in whole))

    def _read(self, token: ReadToken) -> None:
        piece = token.piece[1:] if self._is_added_space(token.piece) else token.piece
        logprob, top = (None, ()) if self._is_first else (token.logprob, token.top)
        self._is_first = False
        text = self._decoder.decode(piece)
        self._at += len(text)
        self._begun.append((ReadToken(piece, logprob, top), text))

    def _is_added_space(self, piece: bytes) -> bool:
        """Whether the piece begins with a space that the text doesn't have at this place."""
        if self._prompt.startswith(" ", self._at) or not piece.startswith(b" "):
            return False
        rest = piece[1:].decode("utf-8", "ignore")
        return not self._is_inside_character() and self._prompt.startswith(rest, self._at)

    def _is_inside_character(self) -> bool:
        undecoded, _ = self._decoder.getstate()
        return undecoded != b""
