"""How long ``ollama create`` takes for a large GGUF file on the server's machine.

``python -m benchmarks.create [--size MB] [--folder FOLDER]`` creates a model of a random file in
FOLDER, with the store beside it: uploaded over HTTP, as a client does that can't reach the store,
and brought by the ways that the file system allows. Each way prints its median and its ratio to
the upload; ``sha256sum`` of the same file is the least that any of them can take.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np

from tests.support.cli import ollama
from tests.support.server import RunningServer, running_server

_RUNS = 3
_ROW = 4096


def write_model(path: Path, megabytes: int) -> None:
    """Random weights; a header that passes for a model's."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    random = np.random.default_rng(0)
    block = random.integers(0, 255, (1 << 20) * 64, np.uint8).view(np.float16).reshape(-1, _ROW)
    for index in range(max(megabytes // 64, 1)):
        writer.add_tensor(f"blk.{index}.weight", block)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def create(server: RunningServer, folder: Path, models: Path) -> float:
    """``models`` is where the client takes the store to be."""
    environment = {"OLLAMA_MODELS": str(models), "HOME": str(folder)}

    def run() -> None:
        done = ollama(
            "create", "big", host=server.host, folder=folder, environment=environment, patience=600
        )
        assert done.code == 0, done

    taken = seconds(run)
    server.request("DELETE", "/api/delete", {"model": "big"})
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2048, help="of the file, in MB")
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        path = folder / "big.gguf"
        write_model(path, arguments.size)
        (folder / "Modelfile").write_text("FROM ./big.gguf\n")
        store, elsewhere = folder / ".ollama" / "models", folder / "elsewhere"
        ways = (
            ("upload", elsewhere, 0o644),
            ("writable", store, 0o644),
            ("read-only", store, 0o444),
        )
        with running_server(folder) as server:
            times: dict[str, list[float]] = {way: [] for way, _, _ in ways}
            for _ in range(_RUNS):
                for way, models, mode in ways:
                    path.chmod(mode)
                    times[way].append(create(server, folder, models))
        with path.open("rb") as file:
            hashing = seconds(lambda: hashlib.file_digest(file, "sha256"))
    base = statistics.median(times["upload"])
    for way, found in times.items():
        median = statistics.median(found)
        print(f"{way:>10}: {median:6.2f} s, {base / median:.1f} x as fast as uploading")
    print(f"{'sha256':>10}: {hashing:6.2f} s")


if __name__ == "__main__":
    main()
