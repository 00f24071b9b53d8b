"""One blob on its way into a registry: mounted from another repository, or sent in parts.

A registry may take the parts itself (PATCH, each answer naming the place of the next), or answer a
PATCH with a redirect to where the part is to be PUT. What a broken connection has brought so far is
asked for, and the rest sent from there.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import IO, Final

import httpx2

from llamaherd.errors import NotInRegistry, RegistryError, RegistryUnavailable, StoreError
from llamaherd.registry.client import RegistryClient
from llamaherd.registry.network import Place, follow
from llamaherd.registry.remote import Remote
from llamaherd.registry.transfer import Pace, Patience, finished, patiently
from llamaherd.store.blobs import BlobStore
from llamaherd.store.files import store_errors

_log: Final = logging.getLogger(__name__)

#: Bytes read from the blob and sent at once.
_CHUNK: Final = 1 << 20
_OCTETS: Final = "application/octet-stream"
#: No more digits than 64 bits have.
_RECEIVED: Final = re.compile(r"(?:bytes=)?0-(\d{1,20})")


class UploadLost(RegistryUnavailable):
    """The registry no longer knows of the upload: all must be sent again."""


class Upload:
    """Brings the blob ``digest`` of the store to ``remote``.

    ``mount`` is a repository of the same registry that may have it already, empty if none is known.
    """

    def __init__(
        self,
        blobs: BlobStore,
        digest: str,
        client: RegistryClient,
        remote: Remote,
        pace: Pace,
        mount: str = "",
    ) -> None:
        self._path = blobs.path(digest)
        self._digest = digest
        self._client = client
        self._remote = remote
        self._pace = pace
        self._mount = mount
        self.total = blobs.size(digest)
        self.completed = 0

    async def run(self) -> None:
        """Returns once the registry has the blob; raises ``RegistryError``, ``StoreError``."""
        patience = Patience(self._pace)
        while True:
            try:
                await self._attempt()
            except UploadLost as error:
                _log.info("upload of %s: %s", self._digest, error)
                await patience.after(error, progressed=False)
                # It may be complete and only the answer lost.
                if not await self._client.has_blob(self._remote, self._digest):
                    continue
            self.completed = self.total
            return

    async def _attempt(self) -> None:
        self.completed = 0
        place = await patiently(self._begin, self._pace)
        if place is None:
            return
        etag = hashlib.md5(usedforsecurity=False)
        count = 0
        size = self._pace.part_size(self.total, self._pace.upload_parts)
        with store_errors("read", self._path), self._path.open("rb") as file:
            for start in range(0, self.total, size):
                content = _Content(file, start, min(start + size, self.total))
                place = await self._send(place, content)
                etag.update(content.md5.digest())
                count += 1
        await self._complete(place, f"{etag.hexdigest()}-{count}")

    async def _begin(self) -> Place | None:
        """Where the first part goes; None if the registry could mount the blob."""
        place = self._client.place(self._remote.uploads_path)
        if self._mount:
            query = {"from": self._mount, "mount": self._digest}
            place = Place(place.url.copy_merge_params(query))
        async with self._request("POST", place) as response:
            return None if response.status_code == 201 else await _next_place(place, response)

    async def _send(self, place: Place, part: _Content) -> Place:
        """Sends a part, in as many tries as it takes; where the next one goes."""
        patience = Patience(self._pace)
        position: int | None = part.start
        while True:
            try:
                if position is None:
                    place, position = await self._received(place, part)
                if position == part.stop:
                    return place
                return await self._patch(place, part, position)
            except UploadLost:
                raise
            except RegistryUnavailable as error:
                _log.info("part at %d of %s: %s", part.start, self._digest, error)
                await patience.after(error, progressed=False)
                position = None

    async def _patch(self, place: Place, part: _Content, position: int) -> Place:
        headers = {
            "Content-Range": f"{position}-{part.stop - 1}",
            # Asks a registry that can to take the part elsewhere; others don't know it.
            "X-Redirect-Uploads": "1",
        }
        async with self._request("PATCH", place, part, position, headers) as response:
            upcoming = await _next_place(place, response)
            if response.status_code != 307:
                return upcoming
            target = await follow(place, response)
        await self._put_elsewhere(target, part)
        return upcoming

    async def _put_elsewhere(self, target: Place, part: _Content) -> None:
        patience = Patience(self._pace)
        while True:
            try:
                async with self._request("PUT", target, part, part.start):
                    return
            except RegistryUnavailable as error:
                await patience.after(error, progressed=False)

    async def _received(self, place: Place, part: _Content) -> tuple[Place, int]:
        """Where to go on with a part, and from which byte on; raises ``UploadLost``."""
        try:
            async with self._request("GET", place) as response:
                found = _RECEIVED.fullmatch(response.headers.get("range", "0-0"))
                # Nothing received and one byte look the same.
                received = int(found[1]) + 1 if found and found[1] != "0" else 0
                if not part.start <= received <= part.stop:
                    raise UploadLost(f"the registry has {received} bytes of the upload")
                return await _next_place(place, response), received
        except RegistryUnavailable:
            raise
        except RegistryError as error:
            raise UploadLost(f"the registry no longer knows the upload: {error}") from error

    async def _complete(self, place: Place, etag: str) -> None:
        place = replace(
            place, url=place.url.copy_merge_params({"digest": self._digest, "etag": etag})
        )
        patience = Patience(self._pace)
        while True:
            try:
                async with self._request("PUT", place):
                    return
            except NotInRegistry as error:
                raise UploadLost("the registry no longer knows the upload") from error
            except RegistryUnavailable as error:
                await patience.after(error, progressed=False)

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        place: Place,
        part: _Content | None = None,
        position: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[httpx2.Response]:
        """Sends a part from ``position`` on, or nothing."""
        length = part.stop - position if part else 0
        sent = {**(headers or {}), "Content-Length": str(length)} if method != "GET" else {}
        if part:
            sent["Content-Type"] = _OCTETS
        content = partial(self._counted, part, position) if part else None
        repository = self._remote.repository
        async with self._client.request(
            method, place, repository, headers=sent, content=content
        ) as response:
            yield response

    async def _counted(self, part: _Content, position: int) -> AsyncIterator[bytes]:
        self.completed = position
        async for chunk in part.read(position):
            yield chunk
            self.completed += len(chunk)


class _Content:
    """The bytes of a blob from ``start`` to before ``stop``, and their MD5 once all were read."""

    def __init__(self, file: IO[bytes], start: int, stop: int) -> None:
        self._file = file
        self._hashed = start
        self.start = start
        self.stop = stop
        self.md5 = hashlib.md5(usedforsecurity=False)

    async def read(self, position: int) -> AsyncIterator[bytes]:
        while position < self.stop:
            chunk = await finished(self._read, position)
            position += len(chunk)
            yield chunk

    def _read(self, position: int) -> bytes:
        size = min(_CHUNK, self.stop - position)
        chunk = os.pread(self._file.fileno(), size, position)
        if len(chunk) < size:
            raise StoreError(f"{self._file.name} is shorter than it was")
        # What is sent again is not hashed again.
        self.md5.update(chunk[max(0, self._hashed - position) :])
        self._hashed = max(self._hashed, position + size)
        return chunk


async def _next_place(place: Place, response: httpx2.Response) -> Place:
    header = "docker-upload-location"
    return await follow(place, response, header if header in response.headers else "location")
