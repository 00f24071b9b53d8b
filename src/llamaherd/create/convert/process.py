"""Converting in a process of its own."""

from __future__ import annotations

from collections.abc import Generator

import msgspec

from llamaherd.create.convert.jobs import Job
from llamaherd.create.process import Task, make_blob
from llamaherd.create.report import Step, Underway
from llamaherd.store.blobs import BlobStore
from llamaherd.store.progress import Progress


def convert(blobs: BlobStore, job: Job) -> Generator[Progress, None, str]:
    """The digest of the GGUF that comes of ``job``, which is then in the store.

    Closing the generator ends the conversion. Raises ``BadRequest`` when the files can't be
    converted, ``StoreError`` and ``ConversionFailed``; then nothing is left in the store.
    """

    def word(step: Step) -> Progress:
        match step:
            case Underway(completed, total):
                return Progress(job.status, total=total, completed=completed)
            case _:
                return Progress(job.status)

    task = Task(f"{__package__}.child", msgspec.json.encode(job), "conversion", word)
    return make_blob(blobs, task)
