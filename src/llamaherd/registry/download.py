"""One blob on its way into the store: parts side by side, verified while they come in."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Final

from llamaherd.errors import RegistryError, RegistryUnavailable
from llamaherd.registry.client import BlobRange
from llamaherd.registry.transfer import Pace, Patience, finished
from llamaherd.store.blobs import BlobStore
from llamaherd.store.manifests import Layer
from llamaherd.store.partial import Part, PartialBlob

_log: Final = logging.getLogger(__name__)

#: Bytes of a part that are written at once, and so may be lost when the process is killed.
PIECE: Final = 1 << 20
#: Bytes that are hashed at once.
_HASHED: Final = 4 << 20

#: Opens the bytes of the blob between two offsets.
Source = Callable[[int, int], AbstractAsyncContextManager[BlobRange]]


class RangesIgnored(Exception):
    """The registry sends the whole blob whatever part of it is asked for."""


class Download:
    """Brings the blob ``layer`` from ``source``; one at a time works on a blob.

    What is interrupted, by cancelling ``run`` or by the end of the process, goes on from there the
    next time.
    """

    def __init__(self, blobs: BlobStore, layer: Layer, source: Source, pace: Pace) -> None:
        self._blobs = blobs
        self._layer = layer
        self._source = source
        self._pace = pace
        self._partial: PartialBlob | None = None
        self._held = 0
        self._arrived = asyncio.Event()

    @property
    def completed(self) -> int:
        """Bytes that are there, those that are about to be written included."""
        return self._held + (self._partial.completed if self._partial is not None else 0)

    async def run(self) -> None:
        """Returns once the blob is in the store, its digest verified.

        Raises ``RegistryError``, ``StoreError``. Content with another digest is removed; if some of
        it was left by an earlier download, that may be to blame, and all of it is fetched anew.
        """
        while True:
            resumed, found = await self._attempt()
            if found == self._layer.digest:
                return
            if not resumed:
                raise RegistryError(
                    "digest mismatch, file must be downloaded again:"
                    f" want {self._layer.digest}, got {found}"
                )
            _log.warning("%s was damaged on disk, downloading it again", self._layer.digest)

    async def _attempt(self) -> tuple[bool, str]:
        """Whether there was something to go on with, and the digest of what came out."""
        total = self._layer.size
        part_size = self._pace.part_size(total, self._pace.download_parts)
        digest = self._layer.digest
        partial = await finished(PartialBlob.open, self._blobs, digest, total, part_size)
        self._partial = partial
        try:
            resumed = partial.completed > 0
            found = await self._fill(partial)
            if found == digest:
                await finished(partial.commit, self._blobs.path(digest))
            else:
                await finished(partial.discard)
            return resumed, found
        finally:
            partial.close()

    async def _fill(self, partial: PartialBlob) -> str:
        """Fetches all that is missing; the digest of the whole."""
        try:
            return await self._fetch_parts(partial)
        except RangesIgnored:
            _log.info("the registry knows no ranges, downloading %s in one go", self._layer.digest)
            await finished(partial.as_one_part)
            return await self._fetch_parts(partial)

    async def _fetch_parts(self, partial: PartialBlob) -> str:
        pending = iter([part for part in partial.parts if not part.is_complete])
        try:
            async with asyncio.TaskGroup() as group:
                verification = group.create_task(self._verify(partial))
                for _ in range(self._pace.connections):
                    group.create_task(self._work(partial, pending))
        except BaseExceptionGroup as errors:
            # The first failure has cancelled the others; it is the one to tell.
            raise errors.exceptions[0] from None
        return verification.result()

    async def _verify(self, partial: PartialBlob) -> str:
        """The digest of the content, read behind what comes in, from the system's memory."""
        content = hashlib.sha256()
        position = 0
        while position < partial.total:
            ready = min(partial.contiguous - position, _HASHED)
            if ready:
                content.update(await finished(partial.read, position, ready))
                position += ready
            else:
                self._arrived.clear()
                await self._arrived.wait()
        return f"sha256:{content.hexdigest()}"

    async def _work(self, partial: PartialBlob, pending: Iterator[Part]) -> None:
        """Fetches one part after the other until there is none that nobody fetches."""
        for part in pending:
            await self._fetch(partial, part)

    async def _fetch(self, partial: PartialBlob, part: Part) -> None:
        patience = Patience(self._pace)
        while not part.is_complete:
            before = part.completed
            try:
                await self._receive(partial, part)
            except RegistryUnavailable as error:
                _log.info("part %d of %s: %s", part.number, self._layer.digest, error)
                await patience.after(error, progressed=part.completed > before)

    async def _receive(self, partial: PartialBlob, part: Part) -> None:
        """Writes what one request brings, without what lies before or behind what is missing."""
        async with self._source(part.position, part.stop) as body:
            skip = part.position - body.start
            if skip and len(partial.parts) > 1:
                raise RangesIgnored
            room = part.size - part.completed
            held: list[bytes] = []
            try:
                async for chunk in body.chunks:
                    chunk, skip = chunk[skip:][:room], max(0, skip - len(chunk))
                    held.append(chunk)
                    self._held += len(chunk)
                    room -= len(chunk)
                    if not room:
                        break
                    if sum(map(len, held)) >= PIECE:
                        await self._write(partial, part, held)
            finally:
                await self._write(partial, part, held)
        if not part.is_complete:
            raise RegistryUnavailable("the registry's answer ended early")

    async def _write(self, partial: PartialBlob, part: Part, held: list[bytes]) -> None:
        """Writes what is held, after which nothing is."""
        chunks = held.copy()
        held.clear()
        try:
            if chunks:
                await finished(partial.write, part, chunks)
        finally:
            self._held -= sum(map(len, chunks))
            self._arrived.set()
