"""A runner process kept ready, so that a model begins to load at once.

Starting Python and loading llama.cpp's libraries takes longer than loading a small model from the
page cache. The spare has done all that and waits for its model.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from llamaherd.observe import of_no_request
from llamaherd.runner.process import Runner
from llamaherd.runner.protocol import Load

log = logging.getLogger(__name__)

#: A new spare starts this long, in seconds, after the last was taken or the server was started, and
#: then as soon as no request runs.
_DELAY: Final = 2.0


class SpareRunner:
    """Starts runners like ``Runner.start``, from a process that is already there if there is one.

    Used by the tasks of one event loop. ``busy`` tells whether requests run, which a starting
    process would slow down. ``delay`` is in seconds, ``command`` for tests.
    """

    def __init__(
        self,
        busy: Callable[[], bool],
        *,
        delay: float = _DELAY,
        command: Sequence[str] | None = None,
    ) -> None:
        self._busy = busy
        self._delay = delay
        self._command = command
        self._preparing: asyncio.Task[Runner | None] | None = None

    def prepare(self) -> None:
        """Have a spare soon; a wait that was going on begins anew."""
        if self._preparing is None:
            self._preparing = asyncio.create_task(self._prepare(), context=of_no_request())

    async def start(self, load: Load, *, load_timeout_ns: int) -> Runner:
        """A runner that has loaded ``load``; raises what ``Runner.start`` raises."""
        spare = await self._take()
        try:
            if spare is None:
                return await Runner.start(
                    load, load_timeout_ns=load_timeout_ns, command=self._command
                )
            await spare.load_model(load, load_timeout_ns=load_timeout_ns)
            return spare
        finally:
            self.prepare()

    async def close(self) -> None:
        """End the spare process."""
        spare = await self._take()
        if spare is not None:
            await spare.stop()

    async def _take(self) -> Runner | None:
        """The spare if it is ready and alive; one in preparation is given up."""
        preparing, self._preparing = self._preparing, None
        if preparing is None:
            return None
        if not preparing.done():
            preparing.cancel()
            await asyncio.wait((preparing,))
        spare = None if preparing.cancelled() else preparing.result()
        return spare if spare is not None and spare.alive else None

    async def _prepare(self) -> Runner | None:
        while True:
            await asyncio.sleep(self._delay)
            if not self._busy():
                break
        try:
            return await Runner.spawn(self._command)
        except OSError as error:
            log.warning("no spare runner: %s", error)
            return None
