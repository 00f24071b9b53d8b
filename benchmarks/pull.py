"""How fast a large layer is pulled from a registry on this machine, verified and synced.

``python -m benchmarks.pull [MEGABYTES]`` prints medians for pulls over 1 and 8 connections, and for
what they replace: ``curl`` and then ``sha256sum``. Needs docker-registry and curl.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

from llamaherd.registry.hub import Hub
from llamaherd.registry.remote import Remote
from llamaherd.registry.transfer import Pace
from llamaherd.store.library import Library
from llamaherd.store.manifests import CONFIG_TYPE, Layer, Manifest, MediaType
from llamaherd.store.names import Name
from tests.support.registry import docker_registry

MODEL: Final = "ns/large"
RUNS: Final = 3


def make_model(library: Library, name: Name, megabytes: int) -> str:
    """A model with a layer of that size of noise; the layer's digest."""
    noise = Random(0).randbytes(1 << 20)
    with library.blobs.writer() as writer:
        for number in range(megabytes):
            writer.write(number.to_bytes(8) + noise[8:])
        layer = Layer(MediaType.MODEL, writer.commit(), writer.size)
    content = b'{"model_format":"gguf","rootfs":{"type":"layers","diff_ids":[]}}'
    config = Layer(CONFIG_TYPE, library.blobs.put(content), len(content))
    library.commit(name, Manifest(config=config, layers=[layer]))
    return layer.digest


async def push(library: Library, name: Name) -> None:
    async for _ in Hub(library).push(name, Remote.of(name, insecure=True)):
        pass


async def pull(library: Library, name: Name, connections: int) -> None:
    hub = Hub(library, pace=replace(Pace(), connections=connections))
    async for _ in hub.pull(name, Remote.of(name, insecure=True)):
        pass


def pull_seconds(folder: Path, name: Name, connections: int) -> float:
    library = Library(folder / "pulled")
    library.prepare()
    started = time.perf_counter()
    asyncio.run(pull(library, name, connections))
    seconds = time.perf_counter() - started
    library.delete(name)
    return seconds


def curl_seconds(folder: Path, name: Name, digest: str) -> float:
    path = folder / "fetched"
    url = f"http://{name.host}/v2/{MODEL}/blobs/{digest}"
    started = time.perf_counter()
    subprocess.run(["curl", "-sfo", str(path), url], check=True)
    subprocess.run(["sha256sum", str(path)], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    path.unlink()
    return seconds


def report(label: str, megabytes: int, measure: Callable[[], float]) -> None:
    seconds = statistics.median(measure() for _ in range(RUNS))
    print(f"{label}: {seconds:.2f} s, {megabytes / seconds:.0f} MB/s")


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with docker_registry(folder) as host:
            name = Name.parse(f"{host}/{MODEL}")
            library = Library(folder / "made")
            digest = make_model(library, name, megabytes)
            started = time.perf_counter()
            asyncio.run(push(library, name))
            print(f"push: {time.perf_counter() - started:.2f} s")
            report("curl and sha256sum", megabytes, partial(curl_seconds, folder, name, digest))
            for connections in (1, 8):
                measure = partial(pull_seconds, folder, name, connections)
                report(f"pull over {connections} connections", megabytes, measure)


if __name__ == "__main__":
    main()
