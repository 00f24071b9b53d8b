"""One download for everybody who wants the same blob."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

from llamaherd.errors import RegistryError
from llamaherd.registry.download import Download
from llamaherd.registry.transfer import Reports, Tasks, check, ended, watch
from llamaherd.store.manifests import Layer
from llamaherd.store.progress import Progress


@dataclass
class _Shared:
    download: Download
    task: asyncio.Task[None]
    waiting: int = 0


class Downloads:
    """The downloads that run. One goes on for as long as somebody waits for it."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._running: dict[str, _Shared] = {}

    async def fetch(self, layer: Layer, begin: Callable[[], Download]) -> Reports:
        """Waits until the blob is in the store, reporting how far it is.

        Joins the download of this blob if there is one, else runs what ``begin`` makes. A download
        that fails under others fails those who began it; who joined tries it their own way. Raises
        what ``Download.run`` raises, and ``ShuttingDown``.
        """
        while True:
            shared, is_ours = await self._join(layer.digest, begin)
            try:
                async with aclosing(self._waiting(shared, layer)) as reports:
                    async for progress in reports:
                        yield progress
                return
            except RegistryError:
                if is_ours:
                    raise

    async def _join(self, digest: str, begin: Callable[[], Download]) -> tuple[_Shared, bool]:
        """The running download, or a new one that is ours."""
        shared = self._running.get(digest)
        while shared is not None and shared.task.cancelling():
            # It has its files until it is over.
            await asyncio.wait((shared.task,))
            shared = self._running.get(digest)
        if shared is not None and not shared.task.done():
            return shared, False
        return self._start(digest, begin()), True

    def _start(self, digest: str, download: Download) -> _Shared:
        shared = _Shared(download, self._tasks.start(download.run()))
        self._running[digest] = shared
        shared.task.add_done_callback(lambda _: self._forget(digest, shared))
        return shared

    def _forget(self, digest: str, shared: _Shared) -> None:
        if self._running.get(digest) is shared:
            del self._running[digest]

    async def _waiting(self, shared: _Shared, layer: Layer) -> Reports:
        shared.waiting += 1
        try:
            async for progress in watch(
                shared.task, lambda: pulling(layer, shared.download.completed)
            ):
                yield progress
            check(shared.task)
            yield pulling(layer, layer.size)
        finally:
            shared.waiting -= 1
            if not shared.waiting:
                await ended(shared.task)


def pulling(layer: Layer, completed: int) -> Progress:
    """How a download is reported: by the first 12 digits of the digest."""
    return Progress(f"pulling {layer.digest[7:19]}", layer.digest, layer.size, completed)
