"""Accelerators and their memory, as reports and files tell of them; no driver is asked here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamaherd import gpus
from llamaherd.gpus import Found, Gpu

GIB = 1 << 30


@pytest.mark.parametrize(
    ("files", "backends"),
    [
        (["libggml.so", "libggml-base.so", "libggml-cpu.so", "libllama.so"], set()),
        (["libggml-cuda.so", "libggml-cuda.so.0", "libggml-cpu.so"], {"cuda"}),
        (["libggml-metal.dylib", "libggml-blas.dylib"], {"metal"}),
    ],
)
def test_the_backends_of_a_build_show_in_its_files(
    tmp_path: Path, files: list[str], backends: set[str]
) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert gpus.gpu_backends(tmp_path) == backends


def test_a_missing_engine_has_no_backends(tmp_path: Path) -> None:
    assert gpus.gpu_backends(tmp_path / "nowhere") == set()


def test_only_accelerators_are_taken_from_the_device_list() -> None:
    device = {"memory_total": 8 * GIB, "memory_free": GIB, "pci": "0000:06:00.0"}
    report = {
        "devices": [
            {"kind": "gpu", "name": "CUDA0", "description": "RTX", "backend": "CUDA", **device},
            {"kind": "cpu", "name": "CPU", "description": "Testium", "backend": "CPU", **device},
        ],
        "errors": ["the second one does not answer"],
    }
    expected = Gpu("RTX", 8 * GIB, GIB, "CUDA", "0000:06:00.0")
    assert gpus.parse_report(json.dumps(report)) == Found((expected,))


def test_a_driver_says_what_troubles_it() -> None:
    report = {"devices": [], "errors": ["failed to initialize CUDA: no device is detected"]}
    assert gpus.parse_report(json.dumps(report)) == Found(
        trouble="failed to initialize CUDA: no device is detected"
    )


# --- free memory ----------------------------------------------------------------------------


RADEON = Gpu("Radeon", 16 * GIB, 15 * GIB, "ROCm", "0000:c1:00.0")


def test_an_amd_device_is_asked_for_what_is_free_by_now(tmp_path: Path) -> None:
    folder = tmp_path / "sys/bus/pci/devices/0000:c1:00.0"
    folder.mkdir(parents=True)
    (folder / "mem_info_vram_total").write_text(f"{16 * GIB}\n")
    (folder / "mem_info_vram_used").write_text(f"{12 * GIB}\n")
    assert gpus.memory_free([RADEON], tmp_path) == [4 * GIB]


@pytest.mark.parametrize("used", [None, "unknown"])
def test_what_does_not_tell_has_what_it_had(tmp_path: Path, used: str | None) -> None:
    folder = tmp_path / "sys/bus/pci/devices/0000:c1:00.0"
    folder.mkdir(parents=True)
    (folder / "mem_info_vram_total").write_text(f"{16 * GIB}\n")
    if used is not None:
        (folder / "mem_info_vram_used").write_text(used)
    apple = Gpu("Apple M3", 12 * GIB, 11 * GIB, "MTL")
    gone = Gpu("RTX", 8 * GIB, 7 * GIB, "CUDA", "ffff:ff:1f.7")
    assert gpus.memory_free([RADEON, apple, gone], tmp_path) == [15 * GIB, 11 * GIB, 7 * GIB]
