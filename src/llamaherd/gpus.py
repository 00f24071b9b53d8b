"""Which accelerators the machine has, and how much of their memory is free.

Nothing here loads llama.cpp: a child process lists the accelerators, and only where the engine's
build has a backend for one. Their free memory is then asked of the drivers, which costs next to
nothing: NVIDIA's by its management library, AMD's on Linux in /sys.
"""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

#: Backends of llama.cpp that drive an accelerator, by the name in their library's file name.
GPU_BACKENDS: Final = frozenset(
    {"cann", "cuda", "hip", "metal", "musa", "opencl", "openvino", "sycl", "vulkan", "webgpu"}
)

#: How long listing the accelerators may take, in seconds; starting a driver can be slow.
_DEVICES_TIMEOUT: Final = 60.0


@dataclass(frozen=True, slots=True)
class Gpu:
    """An accelerator as llama.cpp sees it; memory in bytes, ``backend`` such as "CUDA".

    ``memory_free`` is that of the moment when it was listed. ``pci`` is its address on the bus,
    such as "0000:c1:00.0", empty where it isn't known.
    """

    name: str
    memory_total: int
    memory_free: int
    backend: str
    pci: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """The accelerators; where the engine could use some but has none, ``trouble`` may say why."""

    gpus: tuple[Gpu, ...] = ()
    trouble: str = ""


def gpu_backends(library_folder: Path | None = None) -> frozenset[str]:
    """The accelerator backends that the installed engine was built with; looks at files only."""
    folder = library_folder or _engine_libraries()
    if folder is None or not folder.is_dir():
        return frozenset()
    found = (re.match(r"libggml-([a-z]+)\.", path.name) for path in folder.iterdir())
    return GPU_BACKENDS & {match[1] for match in found if match}


def find_gpus() -> Found:
    """The accelerators, none where the engine's build knows none or their driver fails.

    Asked in a child process, because a driver may crash and its memory would stay taken.
    """
    if not gpu_backends():
        return Found()
    command = [sys.executable, "-P", "-m", "llamaherd.llama.devices"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_DEVICES_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return Found(trouble=f"their driver did not answer within {_DEVICES_TIMEOUT:g} s")
    if done.returncode != 0:
        return Found(trouble=f"looking for them {_ending(done)}")
    return parse_report(done.stdout)


def parse_report(report: str) -> Found:
    """The accelerators in the JSON that ``llamaherd.llama.devices`` prints."""
    told = json.loads(report)
    gpus = tuple(
        Gpu(
            device["description"],
            device["memory_total"],
            device["memory_free"],
            device["backend"],
            device["pci"],
        )
        for device in told["devices"]
        if device["kind"] in ("gpu", "integrated-gpu")
    )
    return Found(gpus, "" if gpus else "; ".join(told["errors"]))


def memory_free(gpus: Sequence[Gpu], root: Path = Path("/")) -> list[int]:
    """Bytes that are free of each, whoever took the rest.

    What can't be asked has what it had when it was listed; ``root`` is where ``sys`` is.
    """
    return [_free(gpu, root) for gpu in gpus]


def _free(gpu: Gpu, root: Path) -> int:
    free = None
    if gpu.pci:
        free = _nvidia_free(gpu.pci) if gpu.backend == "CUDA" else _amd_free(root, gpu.pci)
    return gpu.memory_free if free is None else free


def _nvidia_free(pci: str) -> int | None:
    """None also where the processor shares its memory with the accelerator."""
    # The set-up looks at the machine before there are any libraries.
    import pynvml

    try:
        _start_nvml()
        handle = pynvml.nvmlDeviceGetHandleByPciBusId(pci.encode())
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).free)
    except pynvml.NVMLError:
        return None


@cache
def _start_nvml() -> None:
    import pynvml

    pynvml.nvmlInit()


def _amd_free(root: Path, pci: str) -> int | None:
    """From what the Linux driver amdgpu tells of its devices."""
    folder = root / "sys/bus/pci/devices" / pci
    try:
        total, used = (
            int((folder / f"mem_info_vram_{name}").read_text()) for name in ("total", "used")
        )
    except (OSError, ValueError):
        return None
    return max(0, total - used)


def _ending(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"ended by {signal.Signals(-done.returncode).name}"
    last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
    return f"failed: {last.strip() or f'status {done.returncode}'}"


def _engine_libraries() -> Path | None:
    spec = importlib.util.find_spec("llama_cpp")
    return Path(spec.origin).parent / "lib" if spec and spec.origin else None
