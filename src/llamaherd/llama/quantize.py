"""llama.cpp's quantiser: one GGUF file with smaller weights made of another.

Which type each tensor gets is decided in llama.cpp, so the result is that of its own tool. It may
end the process on a hostile file.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llamaherd.errors import BadRequest, StoreError
from llamaherd.gguf.reader import DEFAULT_ALIGNMENT
from llamaherd.llama.library import C, LoadLog, initialise

#: Rows of a tensor that are held at once, with what becomes of them, in bytes. It makes no
#: difference to the result; more isn't faster.
_BUFFER: Final = 64 << 20

_SIZE: Final = re.compile(r"quant size\s*=\s*([0-9.]+) MiB")
_NO_MATRIX: Final = "will require an imatrix"

#: What C++ calls a file that can't be written.
_STREAM_ERROR: Final = "iostream error"


@dataclass(frozen=True, slots=True)
class Plan:
    """What quantising would do: ``nbytes`` of tensors come out, as llama.cpp rounds them, or
    nothing without an importance matrix."""

    nbytes: int
    needs_importance_matrix: bool


def plan(source: Path, file_type: int) -> Plan:
    """Looks at the header of ``source`` only. ``file_type`` is a ``llama_ftype``.

    Raises ``BadRequest`` when llama.cpp can't quantise this model.
    """
    lines = _run(source, None, file_type, dry_run=True).lines
    (size,) = [match[1] for line in lines if (match := _SIZE.search(line))]
    return Plan(round(float(size) * (1 << 20)), any(_NO_MATRIX in line for line in lines))


def quantize(
    source: Path, target: Path, file_type: int, *, threads: int, realign: bool = False
) -> None:
    """Writes ``source`` with its weights as ``file_type`` to ``target``.

    llama.cpp aligns tensors as is usual but copies what the source says of its alignment; with
    ``realign`` the result says what is so.

    Raises ``BadRequest`` when llama.cpp can't quantise this model, and ``StoreError`` when it sees
    that the result can't be written; it doesn't see it always.
    """
    overrides = _usual_alignment() if realign else None
    _run(source, target, file_type, threads=threads, overrides=overrides)


def _usual_alignment() -> Any:
    """An array of overrides ends with one that has no key."""
    overrides = (C.llama_model_kv_override * 2)()
    overrides[0].tag = C.LLAMA_KV_OVERRIDE_TYPE_INT
    overrides[0].key = b"general.alignment"
    overrides[0].value.val_i64 = DEFAULT_ALIGNMENT
    return overrides


def _run(
    source: Path,
    target: Path | None,
    file_type: int,
    *,
    threads: int = 1,
    dry_run: bool = False,
    overrides: Any = None,
) -> LoadLog:
    initialise()
    parameters = C.llama_model_quantize_default_params()
    parameters.ftype = file_type
    parameters.nthread = threads
    parameters.dry_run = dry_run
    parameters.max_buf_size = _BUFFER
    parameters.kv_overrides = overrides
    with LoadLog() as log:
        failed = C.llama_model_quantize(
            str(source).encode(), str(target or "").encode(), ctypes.byref(parameters)
        )
    if failed:
        if _STREAM_ERROR in log.reason:
            raise StoreError("can't write the quantized model: the disk is full or fails")
        raise BadRequest(f"this model can't be quantized: {log.reason}")
    return log
