"""What the engine's build can do and which devices it sees, as JSON on standard output.

Run as ``python -m llamaherd.llama.devices``, in a process of its own: a driver that crashes or
keeps memory then does no harm. The object has ``version`` (of llama-cpp-python), ``system_info``
(llama.cpp's line of compiled features), ``gpu_offload`` and ``devices``, each with ``kind`` ("cpu",
"gpu", "integrated-gpu" or "accelerator"), ``name``, ``description``, ``backend``, ``memory_total``
and ``memory_free`` in bytes.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Iterator
from typing import Any, Final

import llama_cpp
from llama_cpp._ggml import libggml

#: ``enum ggml_backend_dev_type`` of ggml-backend.h, in its order.
_KINDS: Final = ("cpu", "gpu", "integrated-gpu", "accelerator", "meta")

#: A log callback that says nothing, for processes that only have a report to print.
QUIET: Final = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)

_device = ctypes.c_void_p


def report() -> dict[str, Any]:
    """Everything that the module's text names."""
    llama_cpp.llama_log_set(QUIET, None)
    llama_cpp.llama_backend_init()
    return {
        "version": llama_cpp.__version__,
        "system_info": llama_cpp.llama_print_system_info().decode(),
        "gpu_offload": bool(llama_cpp.llama_supports_gpu_offload()),
        "devices": list(_devices()),
    }


def _devices() -> Iterator[dict[str, Any]]:
    """From ggml-backend.h, which llama-cpp-python doesn't bind."""
    count = _function("ggml_backend_dev_count", ctypes.c_size_t)
    get = _function("ggml_backend_dev_get", _device, ctypes.c_size_t)
    kind = _function("ggml_backend_dev_type", ctypes.c_int, _device)
    name = _function("ggml_backend_dev_name", ctypes.c_char_p, _device)
    description = _function("ggml_backend_dev_description", ctypes.c_char_p, _device)
    registry = _function("ggml_backend_dev_backend_reg", ctypes.c_void_p, _device)
    registry_name = _function("ggml_backend_reg_name", ctypes.c_char_p, ctypes.c_void_p)
    size = ctypes.POINTER(ctypes.c_size_t)
    memory = _function("ggml_backend_dev_memory", None, _device, size, size)

    for index in range(count()):
        device = get(index)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        memory(device, ctypes.byref(free), ctypes.byref(total))
        yield {
            "kind": _KINDS[kind(device)],
            "name": name(device).decode(),
            "description": description(device).decode(errors="replace").strip(),
            "backend": registry_name(registry(device)).decode(),
            "memory_total": total.value,
            "memory_free": free.value,
        }


def _function(name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(libggml, name)
    function.restype, function.argtypes = result, arguments
    return function


if __name__ == "__main__":
    json.dump(report(), sys.stdout)
