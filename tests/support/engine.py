"""Running requests on an engine and collecting what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from llamaherd.engine.engine import Engine
from llamaherd.engine.pictures import Parts, Picture
from llamaherd.events import ReadToken, WrittenToken
from llamaherd.llama.backend import Backend
from llamaherd.runner.protocol import (
    Chunk,
    Failed,
    Finished,
    Generate,
    RunnerMessage,
    Sampling,
    Scored,
)

#: More steps than any test needs: an engine that never ends is a failure, not a hang.
_PATIENCE = 20_000

GREEDY = Sampling(temperature=0, repeat_penalty=1.0)


@dataclass
class Reply:
    """All that was sent for one request; ``counted`` are the tokens of the chunks."""

    scored: list[Scored] = field(default_factory=list)
    chunks: list[str] = field(default_factory=list)
    logprobs: list[WrittenToken] = field(default_factory=list)
    counted: int = 0
    finished: Finished | None = None
    failed: Failed | None = None

    @property
    def text(self) -> str:
        return "".join(self.chunks)

    @property
    def prompt(self) -> list[ReadToken]:
        """What was told of the prompt, which must have come to its end."""
        assert [message.is_last for message in self.scored] == [
            message is self.scored[-1] for message in self.scored
        ]
        return [token for message in self.scored for token in message.tokens]

    @property
    def end(self) -> Finished:
        assert self.finished is not None, self.failed
        return self.finished


def make_picture(key: int, length: int, *, grid: bool = False, mutual: bool = False) -> Picture:
    """A picture that differs from those with other keys.

    On a ``grid`` its embeddings have places in two dimensions, in rows of two.
    """
    index = np.arange(length, dtype=np.int32)
    places = index[np.newaxis]
    span = length
    if grid:
        places = np.stack([0 * index, index // 2, index % 2, 0 * index])
        span = int(places.max()) + 1
    embeddings = (1000 * (key % 1009 + 1) + index).astype(np.float32)[:, np.newaxis]
    return Picture(key, embeddings, places, np.ones_like(places), span, mutual)


class Desk:
    """An engine with its messages sorted by request; each request must end exactly once."""

    def __init__(self, backend: Backend, n_slots: int = 1) -> None:
        self.replies: dict[int, Reply] = {}
        self.engine = Engine(backend, n_slots, self._receive)

    def _receive(self, messages: Iterable[RunnerMessage]) -> None:
        for message in messages:
            assert isinstance(message, (Scored, Chunk, Finished, Failed))
            reply = self.replies.setdefault(message.id, Reply())
            assert reply.finished is None, "more after the end"
            assert reply.failed is None, "more after the failure"
            if isinstance(message, Scored):
                assert not reply.chunks, "the prompt comes first"
                reply.scored.append(message)
            elif isinstance(message, Chunk):
                assert message.text or message.logprobs
                reply.chunks.append(message.text)
                reply.logprobs += message.logprobs
                reply.counted += message.count
            elif isinstance(message, Finished):
                reply.finished = message
            else:
                reply.failed = message

    def finish(self) -> dict[int, Reply]:
        """Step until nothing is left to do."""
        for _ in range(_PATIENCE):
            if not self.engine.busy:
                return self.replies
            self.engine.step()
        raise AssertionError("the engine does not come to an end")

    def ask(self, request: Generate, images: Sequence[Parts] = ()) -> Reply:
        """Run one more request to its end."""
        self.replies.pop(request.id, None)
        self.engine.submit(request, images)
        return self.finish()[request.id]
