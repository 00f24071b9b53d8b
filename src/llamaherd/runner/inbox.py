"""Where a request waits for what its runner answers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Final

from llamaherd.errors import BadRequest, LlamaherdError, NotFound
from llamaherd.runner.protocol import Failed, RunnerMessage

_ERRORS: Final[Mapping[int, type[LlamaherdError]]] = {400: BadRequest, 404: NotFound}


class Inbox:
    """The answers to one request in order, and then perhaps the error that ended it."""

    __slots__ = ("_error", "_messages", "_waiter")

    def __init__(self) -> None:
        self._messages: deque[RunnerMessage] = deque()
        self._error: LlamaherdError | None = None
        self._waiter: asyncio.Future[None] | None = None

    def put(self, message: RunnerMessage) -> None:
        self._messages.append(message)
        self._wake()

    def fail(self, error: LlamaherdError) -> None:
        """Raised by ``get`` once all earlier messages are taken."""
        self._error = error
        self._wake()

    async def get(self) -> RunnerMessage:
        while not self._messages:
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._messages.popleft()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def failure(message: RunnerMessage) -> LlamaherdError:
    """The error that an answer reports, or that it is in itself."""
    if not isinstance(message, Failed):
        return LlamaherdError(f"model runner answered with an unexpected {type(message).__name__}")
    return failed(message.message, message.status)


def failed(text: str, status: int) -> LlamaherdError:
    """An error of this HTTP status."""
    error = _ERRORS.get(status, LlamaherdError)(text)
    error.status = status
    return error
