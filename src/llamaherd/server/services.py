"""What the routes work with: one of each, made at start and closed at the end."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import cast

from starlette.requests import Request

from llamaherd import hardware
from llamaherd.catalog import Catalog
from llamaherd.config import Settings
from llamaherd.embedding import Embedding
from llamaherd.errors import StoreError
from llamaherd.generation.generation import Generation
from llamaherd.registry.service import Transfers
from llamaherd.runner.spare import SpareRunner
from llamaherd.scheduler.loop import Scheduler
from llamaherd.scheduler.memory import gibibytes
from llamaherd.server.metrics import Metrics, Now
from llamaherd.server.response_store import ResponseStore
from llamaherd.store.library import Library
from llamaherd.tokenization import Tokenization

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Services:
    settings: Settings
    library: Library
    catalog: Catalog
    scheduler: Scheduler
    generation: Generation
    tokenization: Tokenization
    embedding: Embedding
    spare: SpareRunner
    transfers: Transfers
    metrics: Metrics
    responses: ResponseStore = field(default_factory=ResponseStore)
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    async def start(cls, settings: Settings) -> Services:
        """Raises ``StoreError`` when the model store can't be used."""
        library = Library(settings.models)
        library.prepare()
        if not settings.noprune:
            await asyncio.to_thread(_prune, library)
        catalog = Catalog(library)
        spare = SpareRunner(lambda: scheduler.busy)
        machine = await asyncio.to_thread(hardware.detect)
        _tell(machine)
        metrics = Metrics(lambda: Now(scheduler.waiting, scheduler.loaded()))
        observe = metrics.observe
        scheduler = Scheduler(settings, machine, runner_factory=spare.start, observe=observe)
        spare.prepare()
        return cls(
            settings=settings,
            library=library,
            catalog=catalog,
            scheduler=scheduler,
            generation=Generation(catalog, scheduler, observe),
            tokenization=Tokenization(catalog, scheduler),
            embedding=Embedding(catalog, scheduler, observe),
            spare=spare,
            transfers=Transfers(library, keep_replaced=settings.noprune, observe=observe),
            metrics=metrics,
        )

    async def close(self) -> None:
        """End all runners and transfers, whose requests fail. Closing twice does nothing more.

        ``closing`` tells it to whoever does something else that takes long.
        """
        self.closing.set()
        await self.transfers.close()
        await self.scheduler.close()
        await self.spare.close()


def _prune(library: Library) -> None:
    """A manifest that can't be read must not keep all other models from being served."""
    try:
        log.info("total unused blobs removed: %d", library.prune())
    except StoreError as error:
        log.warning("kept unused blobs: %s", error)


def _tell(machine: hardware.Hardware) -> None:
    if machine.gpu_trouble:
        log.warning("no accelerator is used: %s", machine.gpu_trouble)
    for gpu in machine.gpus:
        log.info(
            "inference compute: %s, %s, %s free of %s",
            gpu.backend,
            gpu.name,
            gibibytes(gpu.memory_free),
            gibibytes(gpu.memory_total),
        )
    if not machine.gpus:
        log.info(
            "inference compute: CPU, %s, %d threads, %s",
            machine.cpu_name,
            machine.threads,
            gibibytes(machine.memory_total),
        )


def services_of(request: Request) -> Services:
    return cast(Services, request.app.state.services)
