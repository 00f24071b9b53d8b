"""What a runner answers while it writes one reply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from llamaherd.runner.inbox import Inbox, failure
from llamaherd.runner.protocol import Chunk, Finished, RunnerMessage, Scored


class Generation:
    """The reply to one ``Generate``: any number of ``Chunk``, then one ``Finished``.

    If the prompt is scored, ``scored`` must be asked before, up to the last part. Whoever stops
    before the end, by ``aclose``, by cancellation or by dropping the object, has the runner told at
    once. Errors of the request are raised by both.

    Its messages come into ``inbox``; ``forget`` says that no more will, ``cancel`` that no more are
    wanted, ``conclude`` that they are to come to their end.
    """

    def __init__(
        self,
        inbox: Inbox,
        *,
        forget: Callable[[], None],
        cancel: Callable[[], None],
        conclude: Callable[[], None],
    ) -> None:
        self._inbox = inbox
        self._forget = forget
        self._cancel = cancel
        self._conclude = conclude
        self._ended = False
        self._concluded = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk | Finished:
        if self._ended:
            raise StopAsyncIteration
        message = await self._next()
        if isinstance(message, Chunk):
            return message
        self._end()
        if isinstance(message, Finished):
            return message
        raise failure(message)

    async def scored(self) -> Scored:
        """The next tokens of a prompt that is scored, until they are the last."""
        message = await self._next()
        if isinstance(message, Scored):
            return message
        self._end()
        raise failure(message)

    async def _next(self) -> RunnerMessage:
        try:
            return await self._inbox.get()
        except BaseException:
            self.close()
            raise

    def _end(self) -> None:
        self._ended = True
        self._forget()

    def conclude(self) -> None:
        """Have the reply end where it is; ``Finished`` comes after what is under way."""
        if not (self._ended or self._concluded):
            self._concluded = True
            self._conclude()

    def close(self) -> None:
        """``aclose`` for code that can't wait; it never has to."""
        if not self._ended:
            self._ended = True
            self._cancel()

    async def aclose(self) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
