"""Images of requests, looked at in a thread of their own.

An encoder may take seconds for one. Between two images of one request it is the turn of others.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import monotonic_ns
from typing import TYPE_CHECKING

from llamaherd.engine.failures import failure_of
from llamaherd.errors import PromptError
from llamaherd.runner.frames import FrameWriter
from llamaherd.runner.intake import Intake, Viewed
from llamaherd.runner.protocol import Generate, Look, RunnerMessage, Seen

if TYPE_CHECKING:
    from llamaherd.engine.vision import Viewer


class Viewing:
    """Answers ``Look``, and queues requests with what their images are to the model.

    ``viewer`` is None as long as the model isn't loaded, and if it doesn't see.
    """

    def __init__(self, intake: Intake, writer: FrameWriter) -> None:
        self.viewer: Viewer | None = None
        self._intake = intake
        self._writer = writer
        self._thread = ThreadPoolExecutor(1, "viewer")

    def look(self, message: Look) -> None:
        self._intake.begin(message.id)
        self._thread.submit(self._look, message)

    def view(self, request: Generate) -> None:
        self._intake.begin(request.id)
        self._thread.submit(self._view, Viewed(request))

    def _look(self, message: Look) -> None:
        if not self._intake.end(message.id):
            return
        answer: RunnerMessage
        try:
            answer = Seen(message.id, self._eye().count(message.image))
        except Exception as error:
            answer = failure_of(message.id, error)
        self._writer.send([answer])

    def _view(self, viewed: Viewed) -> None:
        """One image more."""
        request = viewed.request
        if not self._intake.is_wanted(request.id):
            return
        started = monotonic_ns()
        try:
            image = request.images[len(viewed.images)].image
            viewed.images.append(self._eye().see(image))
        except Exception as error:
            self._intake.end(request.id)
            self._writer.send([failure_of(request.id, error)])
            return
        viewed.duration += monotonic_ns() - started
        if len(viewed.images) < len(request.images):
            self._thread.submit(self._view, viewed)
        else:
            self._intake.end(request.id, viewed)

    def _eye(self) -> Viewer:
        if self.viewer is None:
            raise PromptError("this model does not support images")
        return self.viewer
