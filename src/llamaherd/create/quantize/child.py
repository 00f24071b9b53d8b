"""The process that quantises; its request is a ``Job``.

With one descriptor it writes the result there. A model that is translated for llama.cpp takes two
more: for its projector, and for the language model as llama.cpp reads it, which nobody needs later.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from llamaherd.compat import DerivedFile, projector_of, text_of
from llamaherd.create.child import run, tell
from llamaherd.create.quantize.job import Job
from llamaherd.create.report import Underway, Verifying
from llamaherd.errors import BadRequest, InvalidGGUF, StoreError
from llamaherd.gguf import GGUF
from llamaherd.gguf.reader import DEFAULT_ALIGNMENT
from llamaherd.llama.environment import choose_threads, prepare
from llamaherd.store.files import require_space, store_errors

#: How often progress is told, in seconds.
_INTERVAL: Final = 0.2

#: Leaves the processor to models that run: it is then worth a tenth of theirs.
NICENESS: Final = 10


def main(arguments: list[str]) -> int:
    os.nice(NICENESS)
    prepare()
    return run(quantize, arguments)


def quantize(request: bytes, descriptors: Sequence[int]) -> list[str]:
    # Not before the environment is prepared, which llama.cpp reads when it is loaded.
    from llamaherd.llama import quantize as llama

    job = msgspec.json.decode(request, type=Job)
    descriptor, *others = descriptors
    source, target = Path(job.source), _path(descriptor)
    made = [descriptor]
    if others:
        made += _translate(job, *others)
        source = _path(others[-1])
    plan = llama.plan(source, job.file_type)
    if plan.needs_importance_matrix:
        raise BadRequest(f"quantizing this model to {job.type} needs an importance matrix")
    with GGUF.open(source) as gguf:
        total = gguf.data_offset + plan.nbytes
        shapes = _shapes(gguf)
        realign = gguf.alignment != DEFAULT_ALIGNMENT
    require_space(Path(job.folder), total, "to be written")
    with _told_growth(descriptor, total):
        threads = choose_threads(0, source)
        llama.quantize(source, target, job.file_type, threads=threads, realign=realign)
    tell(Underway(total, total))
    tell(Verifying())
    _verify(target, job, shapes)
    return [_digest(each) for each in made]


def _translate(job: Job, projector: int, text: int) -> list[int]:
    """Write both parts of the source; the descriptor of the projector, if there is one."""
    source = Path(job.source)
    with GGUF.open(source) as gguf:
        parts = [(text, text_of(gguf)), (projector, projector_of(gguf))]
    found = [(descriptor, part) for descriptor, part in parts if part is not None]
    require_space(Path(job.folder), sum(part.nbytes for _, part in found), "to be translated")
    for descriptor, part in found:
        _write(source, part, _path(descriptor))
    return [descriptor for descriptor, _ in found if descriptor == projector]


def _write(source: Path, derived: DerivedFile, target: Path) -> None:
    # Few models need it, and it imports numpy.
    from llamaherd.llama.derived import DerivedReader

    with store_errors("translate", source), closing(DerivedReader(source, derived)) as reader:
        reader.write(target)


def _path(descriptor: int) -> Path:
    return Path(f"/dev/fd/{descriptor}")


@contextmanager
def _told_growth(descriptor: int, total: int) -> Iterator[None]:
    """Progress as the file shows it, since llama.cpp has no callback for it."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_INTERVAL):
            tell(Underway(min(os.fstat(descriptor).st_size, total), total))

    tell(Underway(0, total))
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _verify(path: Path, job: Job, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raises ``StoreError`` unless all of the model is there: llama.cpp writes through a C++
    stream that may not notice when the last of it doesn't arrive."""
    try:
        with GGUF.open(path) as gguf:
            whole = _shapes(gguf) == shapes and gguf.file_type == job.file_type
    except (OSError, InvalidGGUF):
        whole = False
    if not whole:
        raise StoreError("can't write the quantized model: not all of it is on the disk")


def _shapes(gguf: GGUF) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tensor.shape for tensor in gguf.tensors}


def _digest(descriptor: int) -> str:
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
