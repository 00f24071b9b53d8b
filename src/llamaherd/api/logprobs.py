"""Log-probabilities on the wire, as Ollama has them and as OpenAI has them."""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Iterable, Sequence

from msgspec import UNSET, Struct, UnsetType

from llamaherd.events import ReadToken, WrittenToken

_new_decoder = codecs.getincrementaldecoder("utf-8")


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


class DeltaAlternative(Struct):
    """A token that could have stood at the place of another."""

    token: str
    logprob: float


class DeltaLogprob(DeltaAlternative):
    """A token in the stream of a response, which has no bytes there."""

    top_logprobs: list[DeltaAlternative]


def delta_logprobs(tokens: Sequence[WrittenToken]) -> list[DeltaLogprob]:
    return [
        DeltaLogprob(
            _text(token.piece),
            token.logprob,
            [DeltaAlternative(_text(one.piece), one.logprob) for one in token.top],
        )
        for token in tokens
    ]


def spelling(text: str, tokens: Sequence[WrittenToken]) -> Sequence[WrittenToken]:
    """The tokens of an event that spell its text, without those of tags before it.

    The last token may be missing: it comes with the event in which it ends. All are kept where
    they don't spell any of the text.
    """
    raw = text.encode()
    written = b"".join(token.piece for token in tokens)
    spelt = next(size for size in range(len(raw), -1, -1) if written.endswith(raw[:size]))
    before = len(written) - spelt if spelt else 0
    ends = itertools.accumulate(len(token.piece) for token in tokens)
    return [token for token, end in zip(tokens, ends, strict=True) if end > before]


class TextLogprobs(Struct):
    """``logprobs`` of a text completion; ``text_offset`` is in characters from its beginning.

    ``top_logprobs`` is null where no alternatives were asked for. Otherwise they have the token
    itself too, so there may be one more than were asked for. The first token of a prompt has null
    for both.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class TextOffsets:
    """Follows the tokens of one text completion to tell where in the text they begin."""

    def __init__(self) -> None:
        self._offset = 0

    def logprobs(
        self, parts: Iterable[Sequence[WrittenToken | ReadToken]], *, with_top: bool
    ) -> TextLogprobs:
        """The tokens that follow those of the last time; each part has a whole text of its own."""
        tokens, offsets = [], []
        for part in parts:
            decoder = _new_decoder("replace")
            for token in part:
                tokens.append(token)
                offsets.append(self._offset)
                self._offset += len(decoder.decode(token.piece))
            self._offset += len(decoder.decode(b"", True))
        return TextLogprobs(
            [_legible(token.piece) for token in tokens],
            [token.logprob for token in tokens],
            [_alternatives(token) for token in tokens] if with_top else None,
            offsets,
        )


def _alternatives(token: WrittenToken | ReadToken) -> dict[str, float] | None:
    if token.logprob is None:
        return None
    likely = {_legible(one.piece): one.logprob for one in token.top}
    return likely | {_legible(token.piece): token.logprob}


def _text(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")


def _legible(piece: bytes) -> str:
    """The text of a token, or its bytes in OpenAI's notation, for different ones must differ."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)
