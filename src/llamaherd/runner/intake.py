"""What the engines of a runner are to do, in the order in which it comes to them."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field

from llamaherd.engine.passages import Passages
from llamaherd.engine.pictures import Parts
from llamaherd.runner.protocol import Cancel, Generate, ServerMessage


@dataclass(slots=True)
class Viewed:
    """A request, what its images are to the model, and the nanoseconds that this took to find."""

    request: Generate
    images: list[Parts] = field(default_factory=list)
    duration: int = 0


Work = ServerMessage | Passages | Viewed


class Intake:
    """A queue for one thread, filled by others.

    Some requests are read before: their texts made into tokens, their images into embeddings.
    Whoever does that begins with ``begin``; nothing is queued for a request that is cancelled
    meanwhile. Callable from any thread.
    """

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._being_read: set[int] = set()
        self._lock = threading.Lock()

    def get(self) -> Work:
        """The next piece of work; waits for one."""
        return self._inbox.get()

    def empty(self) -> bool:
        return self._inbox.empty()

    def put(self, message: ServerMessage) -> None:
        """Queue a message as it is."""
        with self._lock:
            if isinstance(message, Cancel):
                self._being_read.discard(message.id)
            self._inbox.put(message)

    def begin(self, request: int) -> None:
        """The request of this number is being read now."""
        with self._lock:
            self._being_read.add(request)

    def is_wanted(self, request: int) -> bool:
        """Whether it is being read and was not cancelled."""
        with self._lock:
            return request in self._being_read

    def end(self, request: int, work: Passages | Viewed | None = None) -> bool:
        """It was read, as ``work`` for the engines if there is any; False if it was cancelled."""
        with self._lock:
            if request not in self._being_read:
                return False
            self._being_read.remove(request)
            if work is not None:
                self._inbox.put(work)
            return True
