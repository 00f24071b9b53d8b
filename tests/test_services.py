"""What the routes work with, made by itself."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from llamaherd import hardware
from llamaherd.config import Settings
from llamaherd.runner.spare import SpareRunner
from llamaherd.server import services
from llamaherd.server.services import Services

pytestmark = pytest.mark.anyio


async def test_the_spare_runner_is_there_also_where_looking_at_the_machine_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, detect = asyncio.get_running_loop(), hardware.detect

    def detect_slowly() -> hardware.Hardware:
        """As where a GPU's driver is asked: the event loop goes on meanwhile."""
        for _ in range(10):
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
        return detect()

    monkeypatch.setattr(hardware, "detect", detect_slowly)
    monkeypatch.setattr(services, "SpareRunner", partial(SpareRunner, delay=0))
    started = await Services.start(Settings.from_environ({"OLLAMA_MODELS": str(tmp_path)}))
    try:
        assert started.spare._preparing is not None
        spare = await started.spare._preparing
        assert spare is not None
        assert spare.alive
    finally:
        await started.close()
