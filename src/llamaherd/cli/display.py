"""What a person sees while something takes its time: progress lines and a spinner, on stderr.

In a terminal they move; anywhere else they are plain lines without control characters.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from itertools import cycle
from threading import Event, Thread
from types import TracebackType
from typing import IO, Final, Protocol, Self

from llamaherd.cli.streams import can_draw
from llamaherd.client import Object
from llamaherd.errors import ServerError

FRAMES: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
#: Seconds between two frames of the spinner.
FRAME_TIME: Final = 0.1
#: A transfer outside a terminal gets a line whenever it has come this many per cent further.
PLAIN_STEP: Final = 10
#: The last status of whatever a server has done.
SUCCESS: Final = "success"


class Progress(Protocol):
    """Steps of a longer work, each a line: named states, and transfers with an amount."""

    def status(self, text: str) -> None:
        """A new step began; the one before is over. The same text again changes nothing."""

    def transfer(self, key: str, label: str, completed: int, total: int) -> None:
        """The transfer ``key`` has come to ``completed`` of ``total`` bytes."""


def progress() -> AbstractContextManager[Progress]:
    """Progress on stderr, as it suits what stderr is."""
    moving = None
    if can_draw(sys.stderr):
        from llamaherd.cli.terminal import terminal_progress

        moving = terminal_progress()
    return moving or PlainProgress(sys.stderr)


class Silence:
    """Progress of what is over so soon that nobody needs to be told."""

    def status(self, text: str) -> None:
        pass

    def transfer(self, key: str, label: str, completed: int, total: int) -> None:
        pass


class PlainProgress(AbstractContextManager["PlainProgress"]):
    """A line for each new status, and one for each tenth of a transfer."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._status = ""
        self._steps: dict[str, int] = {}

    def status(self, text: str) -> None:
        if text != self._status:
            self._status = text
            self._write(text)

    def transfer(self, key: str, label: str, completed: int, total: int) -> None:
        percent = completed * 100 // total if total else 100
        step = percent // PLAIN_STEP
        if step > self._steps.get(key, 0):
            self._steps[key] = step
            self._write(f"{label} {percent}%")

    def __exit__(self, *exception: object) -> None:
        self._stream.flush()

    def _write(self, line: str) -> None:
        # The space is where Ollama's spinner would turn; its absence would be a difference.
        print(line, "", file=self._stream, flush=True)


def follow(events: Iterable[Object], shown: Progress) -> None:
    """Show what the server reports while it creates, pulls or pushes a model.

    Raises ``ServerError`` if its report ends before the success that every server tells of.
    """
    last = ""
    for event in events:
        status = str(event.get("status", ""))
        last = status or last
        completed, total = int(event.get("completed") or 0), int(event.get("total") or 0)
        if event.get("digest") or total:
            shown.transfer(str(event.get("digest") or status), status, completed, total)
        elif status:
            shown.status(status)
    if last != SUCCESS:
        raise ServerError("the server ended its report before the work was done")


class Spinner:
    """A turning sign on stderr while nothing else is written; nothing outside a terminal.

    Ctrl-C may come at any time, so ``stop`` waits for an event, as a join that is interrupted
    forgets the thread, and the thread writes without the lock of ``sys.stderr``, which a thread
    that the interpreter's end finds with it turns into an abort.
    """

    def __init__(self) -> None:
        self._stopped = Event()
        self._erased = Event()
        self._thread: Thread | None = None

    def __enter__(self) -> Self:
        if can_draw(sys.stderr):
            self._thread = Thread(target=self._turn, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the sign away; harmless when it is gone already."""
        if self._thread is not None:
            self._stopped.set()
            self._erased.wait()
            self._thread = None

    def _turn(self) -> None:
        try:
            for frame in cycle(FRAMES):
                _draw(f"\r{frame} ")
                if self._stopped.wait(FRAME_TIME):
                    break
            _draw("\r\x1b[K")
        finally:
            self._erased.set()


def _draw(text: str) -> None:
    os.write(sys.stderr.fileno(), text.encode(sys.stderr.encoding, "replace"))
