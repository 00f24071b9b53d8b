"""Looks at this machine for what decides the engine's build."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from scripts.engine_flags import Compiler, Family, Machine

#: The C++ compilers that CMake would try, each with the C compiler that belongs to it.
COMPILERS: Final = {"c++": "cc", "g++": "gcc", "clang++": "clang"}

_CUDA_FOLDERS: Final = ("/usr/local/cuda/bin", "/opt/cuda/bin")
_OPENMP_PROGRAM: Final = "#include <omp.h>\nint main() { return !omp_get_max_threads(); }\n"


class NoCompiler(Exception):
    """There is nothing to compile the engine with."""


def inspect(environ: Mapping[str, str] = os.environ) -> Machine:
    """Raises ``NoCompiler``, which says what to install."""
    path = find_compiler(environ)
    arch = platform.machine().lower()
    native = "-march=native" if arch in ("x86_64", "amd64", "i686") else "-mcpu=native"
    target = _macros(path, native) or _macros(path)
    nvcc = _find_nvcc(environ)
    return Machine(
        system=platform.system().lower(),
        arch=arch,
        libc=" ".join(platform.libc_ver()).strip() or platform.mac_ver()[0],
        compiler=describe_compiler(path, target),
        target=frozenset(f"{name}={value}" for name, value in target.items()),
        openmp=_has_openmp(path),
        nvidia_gpus=_nvidia_gpus(),
        cuda_compiler=nvcc,
        cuda_version=_cuda_version(nvcc) if nvcc else "",
    )


def find_compiler(environ: Mapping[str, str]) -> str:
    """The C++ compiler that ``CXX`` names, or the first of the usual ones that works."""
    names = [environ["CXX"]] if environ.get("CXX") else list(COMPILERS)
    for name in names:
        path = shutil.which(name, path=environ.get("PATH"))
        if path and _macros(path):
            return path
    raise NoCompiler(
        f"no working C++ compiler (tried {', '.join(names)}). The engine is compiled for this "
        "machine: install one, for example with 'apt-get install g++', 'dnf install gcc-c++' or "
        "'xcode-select --install', then run make again"
    )


def c_compiler(cxx: str, environ: Mapping[str, str]) -> str | None:
    """The C compiler that goes with a C++ compiler, ``None`` to leave the choice to CMake."""
    if environ.get("CC"):
        return environ["CC"]
    sibling = COMPILERS.get(Path(cxx).name)
    return shutil.which(sibling, path=environ.get("PATH")) if sibling else None


def describe_compiler(path: str, macros: Mapping[str, str]) -> Compiler:
    """From the macros that a compiler defines; Clang also claims to be an old GCC."""

    def version(*names: str) -> tuple[int, ...]:
        return tuple(int(macros.get(name, "0")) for name in names)

    if "__clang__" in macros:
        family: Family = "apple-clang" if "__apple_build_version__" in macros else "clang"
        numbers = version("__clang_major__", "__clang_minor__", "__clang_patchlevel__")
        return Compiler(path, family, numbers)
    if "__GNUC__" in macros:
        numbers = version("__GNUC__", "__GNUC_MINOR__", "__GNUC_PATCHLEVEL__")
        return Compiler(path, "gcc", numbers)
    return Compiler(path, "other", ())


def parse_macros(text: str) -> dict[str, str]:
    """``#define NAME value`` lines, as the preprocessor dumps them."""
    return dict(re.findall(r"^#define (\w+) (.*)$", text, re.MULTILINE))


def _macros(compiler: str, *flags: str) -> dict[str, str]:
    """Empty where the compiler doesn't run or doesn't know the flags."""
    done = _run(compiler, *flags, "-dM", "-E", "-x", "c++", os.devnull)
    return parse_macros(done.stdout) if done is not None and done.returncode == 0 else {}


def _has_openmp(compiler: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.cpp")
        source.write_text(_OPENMP_PROGRAM)
        done = _run(compiler, "-fopenmp", str(source), "-o", str(Path(folder, "probe")))
    return done is not None and done.returncode == 0


def _find_nvcc(environ: Mapping[str, str]) -> str | None:
    search = os.pathsep.join([environ.get("PATH", ""), *_CUDA_FOLDERS])
    return environ.get("CUDACXX") or shutil.which("nvcc", path=search)


def _cuda_version(nvcc: str) -> str:
    done = _run(nvcc, "--version")
    match = re.search(r"release ([0-9.]+)", done.stdout) if done else None
    return match[1] if match else ""


def _nvidia_gpus() -> tuple[str, ...]:
    """Names, with the compute capability where the driver's tool tells it."""
    done = _run("nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader")
    if done is not None and done.returncode == 0:
        return tuple(line.strip() for line in done.stdout.splitlines() if line.strip())
    reports = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    names = (re.search(r"^Model:\s*(.+)$", path.read_text(), re.MULTILINE) for path in reports)
    return tuple(name[1].strip() for name in names if name)


def _run(*command: str) -> subprocess.CompletedProcess[str] | None:
    """``None`` where there is no such program."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
