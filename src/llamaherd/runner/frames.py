"""Frames over file descriptors, on the runner's side of the pipes."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Sequence
from typing import IO

from llamaherd.runner.protocol import (
    HEADER_SIZE,
    ProtocolError,
    RunnerMessage,
    encode,
    frame_length,
)


def read_frame(stream: IO[bytes]) -> bytes | None:
    """The body of the next frame, None at the end of the stream.

    Raises ``ProtocolError`` for an end within a frame.
    """
    header = stream.read(HEADER_SIZE)
    if not header:
        return None
    if len(header) == HEADER_SIZE:
        length = frame_length(header)
        body = stream.read(length)
        if len(body) == length:
            return body
    raise ProtocolError("the stream ended within a frame")


class FrameWriter:
    """Writes messages to a pipe without ever making its callers wait for the reader.

    What the pipe takes at once is written at once, by the caller; the rest by a thread. ``lost`` is
    called, from any thread, when the reader has gone. Callable from any thread.
    """

    def __init__(self, descriptor: int, lost: Callable[[], None]) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._lost = lost
        self._changed = threading.Condition()
        self._backlog = bytearray()
        threading.Thread(target=self._drain, name="frame writer", daemon=True).start()

    def send(self, messages: Sequence[RunnerMessage]) -> None:
        frames = b"".join(map(encode, messages))
        with self._changed:
            written = 0 if self._backlog else self._write(frames)
            if written < len(frames):
                self._backlog += frames[written:]
                self._changed.notify()

    def flush(self) -> None:
        """Wait until everything is written."""
        with self._changed:
            self._changed.wait_for(lambda: not self._backlog)

    def _drain(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._backlog)
            select.select([], [self._descriptor], [])
            with self._changed:
                del self._backlog[: self._write(self._backlog)]
                self._changed.notify_all()

    def _write(self, data: bytes | bytearray) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0
        except OSError:
            self._lost()
            return len(data)
