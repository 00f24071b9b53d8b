"""Quantising in a process of its own."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

import msgspec

from llamaherd.compat import text_of
from llamaherd.create.process import Task, make_blobs
from llamaherd.create.quantize.job import Job
from llamaherd.create.quantize.types import UNQUANTISED, Target, type_of
from llamaherd.create.report import Step, Underway
from llamaherd.errors import BadRequest
from llamaherd.gguf import GGUF
from llamaherd.store.blobs import BlobStore
from llamaherd.store.files import store_errors
from llamaherd.store.progress import Progress

#: With a digest, clients show the progress as that of a transfer. The result's isn't known yet, so
#: Ollama sends this.
_DIGEST: Final = "0000000000000000000"

#: What a model that is translated needs: the result, its projector, and what llama.cpp reads.
_FILES_OF_TRANSLATED: Final = 3


def quantize(blobs: BlobStore, source: str, target: Target) -> Generator[Progress, None, list[str]]:
    """The digest of the model ``source`` with its weights as ``target``, which is then in the
    store; ``source`` itself if that is what it has.

    A file that is translated for llama.cpp (``compat``) becomes one that needn't be; of an encoder
    in it, a projector is made, whose digest is the second one, and which isn't quantised.

    Progress counts in bytes of the source. Closing the generator ends the work. Raises
    ``BadRequest`` when this model can't be quantised, ``InvalidGGUF``, ``StoreError`` and
    ``ConversionFailed``; then nothing is left in the store.
    """
    path = blobs.path(source)
    with store_errors("open", path):
        gguf = GGUF.open(path)
    with gguf:
        type_ = type_of(gguf)
        if type_ == target.name:
            return [source]
        if type_ not in UNQUANTISED:
            raise BadRequest("quantization is only supported for F16 and F32 models")
        most_made = 1 if text_of(gguf) is None else _FILES_OF_TRANSLATED
    status = f"quantizing {type_} model to {target.name}"
    size = blobs.size(source)

    def word(step: Step) -> Progress:
        match step:
            case Underway(completed, total):
                done = size * completed // total if total else 0
                return Progress(status, _DIGEST, size, done)
            case _:
                return Progress("verifying conversion")

    job = Job(str(path), str(blobs.folder), target.name, target.number)
    request = msgspec.json.encode(job)
    task = Task(f"{__package__}.child", request, "quantization", word, most_made)
    return (yield from make_blobs(blobs, task))
