"""How to compile llama.cpp for a machine: facts in, CMake arguments out. No I/O.

Why not simply what pip would do: a build for the very machine reads prompts two to three times as
fast as a generic one, GCC before 14 miscompiles llama.cpp's use of AMX tiles, and a third of a
default build is a library that nothing here loads.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

#: GCC before 14 declares ``_tile_loadconfig`` as reading 8 of its 64 bytes, takes the stores of the
#: other 56 for dead and removes them; without these two passes it keeps them.
AMX_CURE: Final = ("-fno-tree-dse", "-fno-dse")
_FIRST_SOUND_GCC: Final = (14,)

#: nvcc may use another host compiler than ours (CUDAHOSTCXX) and link that one's C++ library as an
#: archive. Unhidden, its symbols take the place of the system's in all of llama.cpp's libraries,
#: which then crash at the first locale.
HIDE_ARCHIVES: Final = "-Wl,--exclude-libs,ALL"

_CXX_FLAGS: Final = "CMAKE_CXX_FLAGS"
_LINKER_FLAGS: Final = "CMAKE_SHARED_LINKER_FLAGS"


Family = Literal["gcc", "clang", "apple-clang", "other"]


@dataclass(frozen=True, slots=True)
class Compiler:
    """A C++ compiler; ``family`` is "other" where it names itself neither GCC nor Clang."""

    path: str
    family: Family
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.family} {'.'.join(map(str, self.version))}"


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides how the engine is built.

    ``target`` has the macros that the compiler defines when it compiles for this very processor:
    they name every instruction set it will use. ``nvidia_gpus`` are names, ``cuda_compiler`` is a
    path, ``libc`` a name and version.
    """

    system: str
    arch: str
    libc: str
    compiler: Compiler
    target: frozenset[str] = frozenset()
    openmp: bool = False
    nvidia_gpus: tuple[str, ...] = ()
    cuda_compiler: str | None = None
    cuda_version: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Arguments for CMake, and lines that tell a person what was decided."""

    cmake_args: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def environment(self) -> dict[str, str]:
        return {"CMAKE_ARGS": shlex.join(self.cmake_args)}


def choose_flags(
    machine: Machine, cmake_args: str = "", cxxflags: str = "", ldflags: str = ""
) -> Plan:
    """The texts are the user's environment variables of these names; they come last and win.

    Only flags for the C++ compiler and the linker are added up: a user's own must not drop ours.
    Raises ``ValueError`` for quotes that don't match.
    """
    notes = [f"compiler: {machine.compiler}, for this {machine.arch} processor"]
    own = [
        "-DGGML_NATIVE=ON",
        f"-DGGML_OPENMP={'ON' if machine.openmp else 'OFF'}",
        "-DLLAMA_OPENSSL=OFF",
        "-DLLAMA_BUILD_TESTS=OFF",
        "-DLLAMA_BUILD_EXAMPLES=OFF",
        "-DLLAMA_BUILD_TOOLS=OFF",
        "-DLLAMA_BUILD_SERVER=OFF",
    ]
    given = shlex.split(cmake_args)
    if machine.cuda_compiler and machine.nvidia_gpus:
        given, users_flags = _take_definition(given, _LINKER_FLAGS)
        linker_flags = [*shlex.split(ldflags), *users_flags, HIDE_ARCHIVES]
        own += [f"-D{_LINKER_FLAGS}={shlex.join(linker_flags)}"]
        own += ["-DGGML_CUDA=ON", f"-DCMAKE_CUDA_COMPILER={machine.cuda_compiler}"]
        notes.append(f"CUDA {machine.cuda_version}: on, for {', '.join(machine.nvidia_gpus)}")
    elif machine.nvidia_gpus:
        notes.append(
            f"{', '.join(machine.nvidia_gpus)} will not be used: there is no CUDA compiler (nvcc). "
            "Install the CUDA toolkit, then run make engine"
        )
    if machine.system == "darwin":
        notes.append("Metal: on")
    if not machine.openmp:
        notes.append("OpenMP: not found, llama.cpp's own threads are used")

    given, users_flags = _take_definition(given, _CXX_FLAGS)
    flags = [*shlex.split(cxxflags), *users_flags]
    if _miscompiles_amx(machine):
        flags += AMX_CURE
        notes.append(f"{machine.compiler}: {' '.join(AMX_CURE)}, or it breaks the use of AMX")
    if flags:
        own.append(f"-D{_CXX_FLAGS}={shlex.join(flags)}")
    if given:
        notes.append(f"from CMAKE_ARGS: {shlex.join(given)}")
    return Plan((*own, *given), tuple(notes))


def _miscompiles_amx(machine: Machine) -> bool:
    return (
        machine.compiler.family == "gcc"
        and machine.compiler.version < _FIRST_SOUND_GCC
        and machine.arch in ("x86_64", "amd64", "i686")
    )


def _take_definition(arguments: Sequence[str], name: str) -> tuple[list[str], list[str]]:
    """The arguments without ``-Dname=…`` or ``-Dname:TYPE=…``, and the words of its value."""
    rest, words = [], []
    for argument in arguments:
        variable, _, value = argument.removeprefix("-D").partition("=")
        if argument.startswith("-D") and variable.partition(":")[0] == name:
            words += shlex.split(value)
        else:
            rest.append(argument)
    return rest, words


def cache_key(machine: Machine, plan: Plan, recipe: str) -> str:
    """A name for the wheel that this plan makes here; ``recipe`` is the text that pins sources.

    Everything that changes the code counts; where the compiler lies doesn't.
    """
    facts = asdict(machine) | {"target": sorted(machine.target)}
    facts["compiler"] = [machine.compiler.family, machine.compiler.version]
    text = json.dumps([facts, plan.cmake_args, recipe], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
