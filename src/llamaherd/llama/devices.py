"""What the engine's build can do and which devices it sees, as JSON on standard output.

Run as ``python -m llamaherd.llama.devices``, in a process of its own: a driver that crashes or
keeps memory then does no harm. The object has ``version`` (of llama-cpp-python), ``system_info``
(llama.cpp's line of compiled features), ``gpu_offload`` and ``devices``, each with ``kind`` ("cpu",
"gpu", "integrated-gpu" or "accelerator"), ``name``, ``description``, ``backend``, ``memory_total``
and ``memory_free`` in bytes, and ``pci``, the address on the bus or nothing. ``errors`` are those
that the backends reported, such as of a driver that doesn't answer, unless the user chose devices.
"""

from __future__ import annotations

import ctypes
import json
import sys
from importlib.metadata import version
from typing import Any, Final

from llamaherd.llama.environment import chooses_devices
from llamaherd.llama.library import (
    C,
    LoadLog,
    complaint,
    count_devices,
    function,
    initialise,
    system_info,
)

#: ``enum ggml_backend_dev_type`` of ggml-backend.h, in its order.
_KINDS: Final = ("cpu", "gpu", "integrated-gpu", "accelerator", "meta")

# From ggml-backend.h, which llama-cpp-python doesn't bind.
_pointer: Final = ctypes.c_void_p
_size_out: Final = ctypes.POINTER(ctypes.c_size_t)
_get: Final = function("ggml_backend_dev_get", _pointer, ctypes.c_size_t)
_type: Final = function("ggml_backend_dev_type", ctypes.c_int, _pointer)
_name: Final = function("ggml_backend_dev_name", ctypes.c_char_p, _pointer)
_description: Final = function("ggml_backend_dev_description", ctypes.c_char_p, _pointer)
_memory: Final = function("ggml_backend_dev_memory", None, _pointer, _size_out, _size_out)
_properties: Final = function("ggml_backend_dev_get_props", None, _pointer, _pointer)
_registry: Final = function("ggml_backend_dev_backend_reg", _pointer, _pointer)
_registry_name: Final = function("ggml_backend_reg_name", ctypes.c_char_p, _pointer)


class _Properties(ctypes.Structure):
    """``struct ggml_backend_dev_props``; flags that nobody here reads end it."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("memory_free", ctypes.c_size_t),
        ("memory_total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("flags", ctypes.c_char * 64),
    )


def report() -> dict[str, Any]:
    """Everything that the module's text names."""
    with LoadLog() as log:
        initialise()
        count = count_devices()
    return {
        "version": version("llama-cpp-python"),
        "system_info": system_info(),
        "gpu_offload": bool(C.llama_supports_gpu_offload()),
        "devices": [_describe(_get(index)) for index in range(count)],
        "errors": [] if chooses_devices() else [complaint(line) for line in log.errors],
    }


def _describe(device: int) -> dict[str, Any]:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _memory(device, ctypes.byref(free), ctypes.byref(total))
    properties = _Properties()
    _properties(device, ctypes.byref(properties))
    return {
        "kind": _KINDS[_type(device)],
        "name": _name(device).decode(),
        "description": _description(device).decode(errors="replace").strip(),
        "backend": _registry_name(_registry(device)).decode(),
        "memory_total": total.value,
        "memory_free": free.value,
        "pci": (properties.device_id or b"").decode(),
    }


if __name__ == "__main__":
    json.dump(report(), sys.stdout)
