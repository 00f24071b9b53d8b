"""What all transfers share: a client for each registry in use, and one download for each blob."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from llamaherd.registry.client import RegistryClient
from llamaherd.registry.pull import pull
from llamaherd.registry.push import push
from llamaherd.registry.remote import Registry, Remote
from llamaherd.registry.sharing import Downloads
from llamaherd.registry.transfer import Pace, Reports, Tasks
from llamaherd.store.library import Library
from llamaherd.store.names import Name


class Hub:
    """Pulls into and pushes from ``library``; ``key_path`` is the key that tells who we are."""

    def __init__(
        self,
        library: Library,
        *,
        keep_replaced: bool = False,
        pace: Pace | None = None,
        key_path: Path | None = None,
    ) -> None:
        self._library = library
        self._keep_replaced = keep_replaced
        self._pace = pace or Pace()
        self._key_path = key_path or Path.home() / ".ollama" / "id_ed25519"
        self._clients: dict[Registry, RegistryClient] = {}
        self._tasks = Tasks()
        self._downloads = Downloads(self._tasks)
        self._active = 0

    async def pull(self, name: Name, remote: Remote) -> Reports:
        async with self._client(remote.registry) as client:
            steps = pull(
                self._library,
                client,
                self._downloads,
                name,
                remote,
                self._pace,
                keep_replaced=self._keep_replaced,
            )
            async with aclosing(steps):
                async for progress in steps:
                    yield progress

    async def push(self, name: Name, remote: Remote) -> Reports:
        async with self._client(remote.registry) as client:
            steps = push(self._library, client, self._tasks, name, remote, self._pace)
            async with aclosing(steps):
                async for progress in steps:
                    yield progress

    @asynccontextmanager
    async def _client(self, registry: Registry) -> AsyncIterator[RegistryClient]:
        """The client for a registry; all are closed when the last transfer ends.

        Not earlier: a download may use the client of a transfer that has left it to others.
        """
        if registry not in self._clients:
            client = RegistryClient(registry, self._key_path, self._pace.stall)
            self._clients[registry] = client
        self._active += 1
        try:
            yield self._clients[registry]
        finally:
            self._active -= 1
            if not self._active:
                idle, self._clients = self._clients, {}
                for client in idle.values():
                    await client.close()

    async def close(self) -> None:
        """Ends all transfers; who waits for one gets ``ShuttingDown``."""
        await self._tasks.close()
