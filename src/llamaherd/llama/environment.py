"""Threads, how they wait for each other, and devices: all that is settled by the environment.

Threads are to be settled before llama.cpp is loaded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from llamaherd.hardware import detect, linux_hardware

#: How long an OpenMP thread spins at a barrier before it sleeps, in turns of libgomp's loop.
#:
#: libgomp's own choice spins for milliseconds; when another process wants a core, every barrier
#: then waits for a thread that isn't running. On two cores a 130M model in Q8_0 wrote 77 to 184
#: tokens/s alone and as few as 4 beside a busy process; with 1,000 turns, about 30 µs, 209 and 55;
#: never spinning, 116 and 100.
_SPIN_COUNT: Final = "1000"

#: What a user may have set to decide otherwise.
_WAITING_VARIABLES: Final = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")

#: A model of fewer bytes is evaluated faster than threads can be brought together.
_SINGLE_THREADED: Final = 8 << 20


#: By these a user says which accelerators there shall be, and maybe that there shall be none.
DEVICE_VARIABLES: Final = (
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "GGML_VK_VISIBLE_DEVICES",
)


def chooses_devices() -> bool:
    return any(name in os.environ for name in DEVICE_VARIABLES)


def prepare() -> None:
    """Set what llama.cpp and OpenMP read once they are loaded, unless the user did.

    A runner that crashes shall end at once, not first start a debugger to print its stack.
    """
    if not any(name in os.environ for name in _WAITING_VARIABLES):
        os.environ["GOMP_SPINCOUNT"] = _SPIN_COUNT
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")


def choose_threads(requested: int, model: Path) -> int:
    """Threads to evaluate with: as requested, or by the size of the model and the cores."""
    if requested > 0:
        return requested
    if model.is_file() and model.stat().st_size < _SINGLE_THREADED:
        return 1
    return _cores()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return linux_hardware(Path("/"), os.sched_getaffinity(0)).cores
    return detect().cores
