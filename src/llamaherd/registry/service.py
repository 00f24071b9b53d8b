"""Pulling and pushing as the server sees it.

The HTTP client and all that works with it are imported with the first transfer, so that a server
that makes none starts without them and stays small.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING

from llamaherd.cria import bundle
from llamaherd.errors import ShuttingDown
from llamaherd.registry.remote import Remote
from llamaherd.registry.transfer import Reports
from llamaherd.store.library import Library
from llamaherd.store.names import Name
from llamaherd.store.progress import Progress
from llamaherd.telemetry import Direction, Observer, TransferEnded, TransferOutcome, unobserved

if TYPE_CHECKING:
    from llamaherd.registry.hub import Hub


class Transfers:
    """Models between ``library`` and registries.

    ``keep_replaced`` leaves the blobs alone that a pulled model had before. ``pull`` and ``push``
    report each step, the last one as "success"; closing their iterators ends what nobody else waits
    for. They raise ``RegistryError``, ``StoreError`` and ``ShuttingDown``.
    """

    def __init__(
        self, library: Library, *, keep_replaced: bool = False, observe: Observer = unobserved
    ) -> None:
        self._library = library
        self._observe = observe
        self._keep_replaced = keep_replaced
        self._hub: Hub | None = None
        self._closed = False

    async def pull(self, name: Name, *, insecure: bool = False) -> Reports:
        """The model of the package is pulled from there, whatever a registry may have."""
        if bundle.is_bundled(name):
            for progress in await asyncio.to_thread(_unpacked, self._library):
                yield progress
            return
        remote = Remote.of(name, insecure=insecure)
        with self._observed("pull"):
            async with aclosing((await self._ready()).pull(name, remote)) as reports:
                async for progress in reports:
                    yield progress

    async def push(self, name: Name, *, insecure: bool = False) -> Reports:
        remote = Remote.of(name, insecure=insecure)
        with self._observed("push"):
            async with aclosing((await self._ready()).push(name, remote)) as reports:
                async for progress in reports:
                    yield progress

    @contextmanager
    def _observed(self, direction: Direction) -> Iterator[None]:
        """Tell how the block ended; one that is closed or cancelled was given up."""
        outcome: TransferOutcome = "cancelled"
        try:
            yield
            outcome = "finished"
        except Exception:
            outcome = "failed"
            raise
        finally:
            self._observe(TransferEnded(direction, outcome))

    async def _ready(self) -> Hub:
        kind = await asyncio.to_thread(_hub_type)
        if self._closed:
            raise ShuttingDown
        if self._hub is None:
            self._hub = kind(self._library, keep_replaced=self._keep_replaced)
        return self._hub

    async def close(self) -> None:
        """Ends all transfers; downloads go on the next time. Closing twice does nothing more."""
        self._closed = True
        if self._hub is not None:
            await self._hub.close()


def _unpacked(library: Library) -> list[Progress]:
    return list(bundle.pull(library))


def _hub_type() -> type[Hub]:
    from llamaherd.registry.hub import Hub

    return Hub
