"""How fast a model is quantised, and how much memory that takes.

``python -m benchmarks.quantize [--tool llama-quantize]`` writes a random F16 model of 2 GB,
quantises it as the server does, verification and digest included, and prints megabytes read a
second and the peak memory of the quantising process: part of that is the source, mapped into it a
tensor at a time. Given llama.cpp's own tool, it takes turns with it on as many threads, and says
how the times compare and whether the files are the same.
"""

from __future__ import annotations

import argparse
import filecmp
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple, TypeVar

from benchmarks.convert import write_model
from llamaherd.create.convert.jobs import ConvertModel
from llamaherd.create.convert.process import convert
from llamaherd.create.quantize.child import NICENESS
from llamaherd.create.quantize.process import quantize
from llamaherd.create.quantize.types import Target, parse_target
from llamaherd.gguf import GGUF
from llamaherd.llama.environment import choose_threads
from llamaherd.store.blobs import BlobStore
from llamaherd.store.progress import Progress

T = TypeVar("T")

_TYPES: Final = ("q4_K_M", "q8_0")


def made_by(steps: Generator[Progress, None, T]) -> T:
    """What is at the end of the steps."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            made: T = end.value
            return made


def write_source(blobs: BlobStore, folder: Path) -> str:
    """The digest of a random model in F16."""
    folder.mkdir()
    write_model(folder, "F16")
    job = ConvertModel({path.name: str(path) for path in folder.iterdir()})
    (digest,) = made_by(convert(blobs, job))
    return digest


class Cost(NamedTuple):
    """Seconds on the clock, and of processors; the latter says more on a busy machine."""

    clock: float
    processors: float


@contextmanager
def counted(costs: list[Cost]) -> Iterator[None]:
    """Adds what is spent within by child processes."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    yield
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    costs.append(Cost(clock, user + system))


def medians(costs: list[Cost]) -> Cost:
    return Cost(*(median(column) for column in zip(*costs, strict=True)))


def run_tool(tool: Path, source: Path, result: Path, target: Target) -> None:
    """llama.cpp's tool, with no more right to the processors than ours."""
    command: list[str | Path] = ["nice", "-n", str(NICENESS), tool]
    command += [source, result, target.name, str(choose_threads(0, source))]
    subprocess.run(command, check=True, capture_output=True)


def peak_memory() -> int:
    """Of the children so far, in bytes."""
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*", default=_TYPES, help="such as q4_K_M")
    parser.add_argument("--tool", type=Path, help="llama.cpp's llama-quantize")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        blobs = BlobStore(Path(name) / "blobs")
        source = write_source(blobs, Path(name) / "model")
        size = blobs.size(source)
        with GGUF.open(blobs.path(source)) as gguf:
            largest = max(tensor.nbytes for tensor in gguf.tensors)
        result, memory = Path(name) / "tool.gguf", 0
        for target in map(parse_target, arguments.types):
            ours: list[Cost] = []
            theirs: list[Cost] = []
            for _ in range(arguments.runs):
                with counted(ours):
                    (digest,) = made_by(quantize(blobs, source, target))
                memory = memory or peak_memory()
                if arguments.tool:
                    with counted(theirs):
                        run_tool(arguments.tool, blobs.path(source), result, target)
            cost = medians(ours)
            line = f"{target.name}: {cost.clock:.1f} s, {size / 1e6 / cost.clock:.0f} MB/s"
            if theirs:
                tool = medians(theirs)
                same = filecmp.cmp(blobs.path(digest), result, shallow=False)
                line += (
                    f"; {cost.clock / tool.clock:.2f} of the tool's time and "
                    f"{cost.processors / tool.processors:.2f} of its processor time, "
                    f"{'the same file' if same else 'ANOTHER file'}"
                )
            print(line, flush=True)
        print(
            f"source {size / 1e6:.0f} MB, its largest tensor {largest / 1e6:.0f} MB; "
            f"peak memory {memory / 1e6:.0f} MB"
        )


if __name__ == "__main__":
    main()
