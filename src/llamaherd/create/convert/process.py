"""Converting in a process of its own."""

from __future__ import annotations

from collections.abc import Generator

import msgspec

from llamaherd.create.convert.jobs import Job
from llamaherd.create.process import Task, make_blobs
from llamaherd.create.report import Step, Underway
from llamaherd.store.blobs import BlobStore
from llamaherd.store.progress import Progress


def convert(blobs: BlobStore, job: Job) -> Generator[Progress, None, list[str]]:
    """The digests of the GGUF files that come of ``job``, which are then in the store.

    Closing the generator ends the conversion. Raises ``BadRequest`` when the files can't be
    converted, ``StoreError`` and ``ConversionFailed``; then nothing is left in the store.
    """

    def word(step: Step) -> Progress:
        match step:
            case Underway(completed, total):
                return Progress(job.status, total=total, completed=completed)
            case _:
                return Progress(job.status)

    request = msgspec.json.encode(job)
    task = Task(f"{__package__}.child", request, "conversion", word, job.most_made)
    return make_blobs(blobs, task)
