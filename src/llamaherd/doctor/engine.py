"""The engine: which build it is, whether it suits the processor, whether it computes rightly."""

from __future__ import annotations

import json
import platform
import re
import shlex
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Final

import llamaherd
from llamaherd.doctor.findings import Fact, Problem, Section
from llamaherd.doctor.probe import Answer, ask
from llamaherd.gpus import gpu_backends
from llamaherd.hardware import Hardware

PACKAGE: Final = "llama-cpp-python"

#: llama.cpp's names of instruction sets (ggml-cpu's feature list), and the Linux kernel's.
INSTRUCTION_SETS: Final = {
    "SSE3": "pni",
    "SSSE3": "ssse3",
    "AVX": "avx",
    "AVX_VNNI": "avx_vnni",
    "AVX2": "avx2",
    "F16C": "f16c",
    "FMA": "fma",
    "BMI2": "bmi2",
    "AVX512": "avx512f",
    "AVX512_VBMI": "avx512vbmi",
    "AVX512_VNNI": "avx512_vnni",
    "AVX512_BF16": "avx512_bf16",
    "AMX_INT8": "amx_int8",
    "DOTPROD": "asimddp",
    "FP16_VA": "asimdhp",
    "MATMUL_INT8": "i8mm",
    "SVE": "sve",
}

_NVIDIA: Final = Path("/proc/driver/nvidia/gpus")


def examine_engine(machine: Hardware) -> Section:
    required = required_version()
    try:
        installed = version(PACKAGE)
    except PackageNotFoundError:
        problem = Problem(f"{PACKAGE} is not installed: no model can run.", rebuild(required))
        return Section("Engine", {PACKAGE: "not installed"}, [problem])
    devices = ask("devices")
    tests = self_tests(machine)
    facts: dict[str, Fact] = {PACKAGE: installed}
    problems = []
    if required and installed != required:
        problems.append(
            Problem(
                f"{PACKAGE} is {installed}, but {required} is what llamaherd was made for.",
                rebuild(required),
            )
        )
    if devices.report is None:
        facts["library"] = f"does not load: {devices.ending}"
        problems.append(
            Problem(f"The engine's library does not load: {devices.ending}.", rebuild(required))
        )
        return Section("Engine", facts, problems)
    compiled = compiled_features(devices.report["system_info"])
    facts["compiled for"] = sorted(compiled)
    facts["compiled with"] = compiled_with(Path(sys.prefix))
    facts["GPU backends"] = sorted(gpu_backends())
    facts["devices"] = [
        f"{device['name']} ({device['description']})" for device in devices.report["devices"]
    ]
    facts |= {name: "passed" if test.sound else failure(test) for name, test in tests.items()}
    problems += feature_problems(compiled, machine.features, rebuild(required))
    problems += self_test_problems(tests, rebuild(required))
    if _has_nvidia_gpu() and not gpu_backends():
        problems.append(
            Problem(
                "There is an NVIDIA GPU, but the engine was compiled without CUDA.",
                f"Install the CUDA toolkit, so that nvcc is found, then:\n{rebuild(required)}",
            )
        )
    if machine.gpu_trouble:
        problems.append(
            Problem(
                f"The engine can use accelerators, but finds none: {machine.gpu_trouble}.",
                "Look at their driver; nvidia-smi tells whether NVIDIA's works.",
            )
        )
    return Section("Engine", facts, problems)


def required_version() -> str:
    """The version of the engine that our own package asks for."""
    for line in requires("llamaherd") or ():
        if match := re.match(rf"{PACKAGE}==([\w.]+)", line):
            return match[1]
    return ""


def compiled_features(system_info: str) -> frozenset[str]:
    """What is on in llama.cpp's line ``CPU : SSE3 = 1 | … | OPENMP = 1 | ``."""
    return frozenset(re.findall(r"(\w+) = 1\b", system_info))


def compiled_with(environment: Path) -> str | None:
    """The compiler, as our set-up noted it in the virtual environment; else nobody knows."""
    try:
        return str(json.loads((environment / "engine.json").read_text())["compiler"])
    except (OSError, ValueError, KeyError):
        return None


def feature_problems(
    compiled: frozenset[str], present: frozenset[str], remedy: str
) -> Iterator[Problem]:
    """A build for another processor crashes, or wastes this one. Nothing if we don't know ours."""
    if not present:
        return
    both = {name for name, flag in INSTRUCTION_SETS.items() if flag in present}
    known = compiled & INSTRUCTION_SETS.keys()
    if lacking := sorted(known - both):
        yield Problem(
            f"The engine uses {', '.join(lacking)}, which this processor lacks: it will crash.",
            remedy,
        )
    if unused := sorted(both - known):
        yield Problem(
            f"The processor has {', '.join(unused)}, but the engine was compiled without: "
            "models run slower than they could.",
            remedy,
        )


# --- the self-test --------------------------------------------------------------------------


def self_tests(machine: Hardware) -> dict[str, Answer]:
    """By the name to show; the plain layout is tried only where the best one fails."""
    tests = {"self-test": ask("selftest")}
    if not tests["self-test"].sound:
        tests["in plain layout"] = ask("selftest", "--no-extra-buffers")
    if machine.gpus:
        tests["self-test on GPU"] = ask("selftest", "--gpu")
    return tests


def failure(test: Answer) -> str:
    if test.report is None:
        return f"crashed: {test.ending}"
    wrong = [str(part["name"]) for part in test.report.get("tests", ()) if not part["sound"]]
    return f"wrong numbers: {', '.join(wrong)}"


def self_test_problems(tests: dict[str, Answer], remedy: str) -> Iterator[Problem]:
    main, plain = tests["self-test"], tests.get("in plain layout")
    if not main.sound and plain is not None and plain.sound:
        yield Problem(
            f"The engine's build is unsound on this machine ({failure(main)}). Models run all the "
            "same, with their weights in the plain layout, but read prompts more slowly.",
            remedy,
        )
    elif not main.sound:
        yield Problem(
            f"The engine's build is unsound on this machine ({failure(main)}). No model can run.",
            remedy,
        )
    gpu = tests.get("self-test on GPU")
    if gpu is not None and not gpu.sound:
        yield Problem(
            f"The engine does not work on the GPU ({failure(gpu)}).",
            f"Update the GPU's driver, or compile the engine again:\n{remedy}",
        )


def rebuild(required: str) -> str:
    """The command that compiles the engine again, for a checkout or a plain installation."""
    root = Path(llamaherd.__file__).parents[2]
    if (root / "Makefile").is_file() and (root / "scripts/build_engine.py").is_file():
        return f"make -C {shlex.quote(str(root))} engine"
    flags = "-DGGML_NATIVE=ON"
    if platform.machine().lower() in ("x86_64", "amd64"):
        # GCC before 14 needs these for AMX; elsewhere they cost nothing.
        flags += " -DCMAKE_CXX_FLAGS='-fno-tree-dse -fno-dse'"
    return (
        f'CMAKE_ARGS="{flags}" pip install --force-reinstall --no-deps --no-cache-dir '
        f"--no-binary {PACKAGE} {PACKAGE}=={required}"
    )


def _has_nvidia_gpu() -> bool:
    return _NVIDIA.is_dir() and any(_NVIDIA.iterdir())
