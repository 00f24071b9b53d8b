"""From the inputs of an ``Embed`` to the tokens that are evaluated, checked before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from llamaherd.errors import PromptError, Unsupported
from llamaherd.llama.backend import InvalidText, InvalidToken, VectorBackend
from llamaherd.runner.protocol import Embed, InputFailure

#: As Ollama words it; clients match on it.
TOO_LONG: Final = "input length exceeds maximum context length"


class Speller(Protocol):
    """What is needed of a vocabulary; see ``llama.vocabulary``."""

    def surroundings(self) -> tuple[list[int], list[int]]: ...
    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]: ...
    def check(self, tokens: Sequence[int]) -> None: ...
    def separator(self) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Passages:
    """The tokens of each input of a request, None where there is a failure instead."""

    request: Embed
    tokens: list[list[int] | None]
    failures: list[InputFailure] = field(default_factory=list)


class _Frame(NamedTuple):
    """The tokens before and behind every input of a request."""

    head: list[int]
    ending: list[int]


class PassageReader:
    """Reads requests for what a backend can embed; callable from any thread."""

    def __init__(self, vocabulary: Speller, backend: VectorBackend) -> None:
        self._vocabulary = vocabulary
        self._backend = backend
        self._n_ctx = backend.n_ctx

    def read(self, request: Embed) -> Passages:
        """Raises ``BadRequest`` for what is wrong with all of the request.

        ``InvalidText`` is raised where the vocabulary lacks what it puts around every text.
        """
        if request.dimensions > (width := self._backend.width):
            raise PromptError(
                f"dimensions must be at most {width}, as many as the model has, "
                f"not {request.dimensions}"
            )
        if self._backend.ranks and request.query is None:
            raise Unsupported("this model ranks documents, it does not support embeddings")
        if request.query is not None and not self._backend.ranks:
            raise Unsupported("this model embeds, it does not rank")
        frame = self._frame(request.query)
        passages = Passages(request, [])
        for index, given in enumerate(request.inputs):
            tokens = None
            try:
                tokens = self._fit(frame, given, truncate=request.truncate)
            except (PromptError, InvalidText, InvalidToken) as error:
                passages.failures.append(InputFailure(index, str(error)))
            passages.tokens.append(tokens)
        return passages

    def _frame(self, query: str | None) -> _Frame:
        if query is None:
            return _Frame(*self._vocabulary.surroundings())
        try:
            frame = self._frame_of_pairs(query)
        except InvalidText as error:
            raise PromptError(f"query: {error}") from error
        if len(frame.head) + len(frame.ending) >= self._n_ctx:
            raise PromptError(f"query: {TOO_LONG}")
        return frame

    def _frame_of_pairs(self, query: str) -> _Frame:
        """As in llama.cpp's server: by the template of the model's file, or with a separator."""
        vocabulary, template = self._vocabulary, self._backend.rank_template
        if template is None:
            opening, ending = vocabulary.surroundings()
            tokens = vocabulary.tokenize(query, add_special=False, parse_special=False)
            return _Frame([*opening, *tokens, *vocabulary.separator()], ending)
        before, _, after = template.partition("{document}")
        parts = (before.replace("{query}", query), after)
        return _Frame(
            *(vocabulary.tokenize(part, add_special=False, parse_special=True) for part in parts)
        )

    def _fit(self, frame: _Frame, given: str | list[int], *, truncate: bool) -> list[int]:
        body = self._body(given)
        room = self._n_ctx - len(frame.head) - len(frame.ending)
        if len(body) > room:
            if not truncate or room < 1:
                raise PromptError(TOO_LONG)
            body = body[:room]
        tokens = [*frame.head, *body, *frame.ending]
        if not tokens:
            raise PromptError("no input provided")
        return tokens

    def _body(self, given: str | list[int]) -> list[int]:
        """The tokens of an input without those that the vocabulary puts around it."""
        if isinstance(given, str):
            return self._vocabulary.tokenize(
                given, add_special=False, parse_special=not self._backend.ranks
            )
        self._vocabulary.check(given)
        opening, ending = self._vocabulary.surroundings()
        start = len(opening) if given[: len(opening)] == opening else 0
        end = len(given) - len(ending)
        return given[start:end] if end >= start and given[end:] == ending else given[start:]
