"""Log-probabilities on the wire, as Ollama has them and as OpenAI has them."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from msgspec import UNSET, Struct, UnsetType

from llamaherd.events import Likelihood, WrittenToken


class TokenLogprob(Struct):
    """``bytes`` are those of the token, which ``token`` has as text as far as they are any."""

    token: str
    logprob: float
    bytes: list[int]


class Logprob(TokenLogprob):
    """A token of the reply; Ollama leaves out ``top_logprobs`` where there are none."""

    top_logprobs: list[TokenLogprob] | UnsetType = UNSET


class ChatLogprobs(Struct):
    """``logprobs`` of OpenAI's chat completions; nothing here refuses: ``refusal`` is null."""

    content: list[Logprob]
    refusal: None = None


def ollama_logprobs(tokens: Sequence[WrittenToken]) -> list[Logprob]:
    return [_logprob(token, _top(token) or UNSET) for token in tokens]


def chat_logprobs(tokens: Sequence[WrittenToken]) -> ChatLogprobs:
    return ChatLogprobs([_logprob(token, _top(token)) for token in tokens])


def _logprob(token: WrittenToken, top: list[TokenLogprob] | UnsetType) -> Logprob:
    return Logprob(_text(token.piece), token.logprob, list(token.piece), top)


def _top(token: WrittenToken) -> list[TokenLogprob]:
    return [TokenLogprob(_text(one.piece), one.logprob, list(one.piece)) for one in token.top]


class TextLogprobs(Struct):
    """``logprobs`` of a text completion; ``text_offset`` is in characters from its beginning.

    ``top_logprobs`` is null where no alternatives were asked for. Otherwise they have the token
    itself too, so there may be one more than were asked for.
    """

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class TextOffsets:
    """Follows the tokens of one text completion to tell where in the text they begin."""

    def __init__(self) -> None:
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def logprobs(self, tokens: Sequence[WrittenToken], *, with_top: bool) -> TextLogprobs:
        """The tokens that follow those of the last time."""
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(self._decoder.decode(token.piece))
        return TextLogprobs(
            [_legible(token.piece) for token in tokens],
            [token.logprob for token in tokens],
            [_alternatives(token) for token in tokens] if with_top else None,
            offsets,
        )


def _alternatives(token: WrittenToken) -> dict[str, float]:
    likely: list[Likelihood] = [*token.top, token]
    return {_legible(one.piece): one.logprob for one in likely}


def _text(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")


def _legible(piece: bytes) -> str:
    """The text of a token, or its bytes in OpenAI's notation, for different ones must differ."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)
