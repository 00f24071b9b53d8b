"""Gets llama-cpp-python compiled for this machine: from our own cache of wheels, or by building.

pip's cache of built wheels can't serve here: it ignores the flags that a wheel was built with. Ours
is in ``$XDG_CACHE_HOME/llamaherd/engine/<key>``; the key covers the sources, the compiler, the
processor's instruction sets and the flags. Without a cache that can be written, everything works,
only slower.

``python -m scripts.build_engine`` prints the flags for this machine, for ``CMAKE_ARGS``.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, TextIO

from llamaherd import hardware
from scripts.engine_flags import Machine, Plan, cache_key, choose_flags
from scripts.machine import NoCompiler, c_compiler, inspect
from scripts.venvs import SetUpFailed, make_venv, pip_install, run, say

ROOT: Final = Path(__file__).parents[1]
ENGINE_LOCK: Final = ROOT / "requirements/engine.lock"
TOOLS_LOCK: Final = ROOT / "requirements/engine-build.lock"
CMAKE_FILE: Final = ROOT / "scripts/engine.cmake"
FAILED_LOG: Final = ROOT / "build/engine-build.log"

#: What compiling one file of llama.cpp takes at its worst, in bytes.
_MEMORY_PER_JOB: Final = 3 << 29

#: What a core compiles in, in minutes: all of llama.cpp but CUDA, and CUDA's kernels.
_MINUTES: Final = 8
_CUDA_MINUTES: Final = 50

#: Lines of a failed build that are shown.
_TAIL: Final = 30

#: A line of Ninja's as pip shows it; those of CMake's own trials are further in.
_STEP: Final = re.compile(r" {0,2}\[([0-9]+)/([0-9]+)\] ")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is to be built here, and the name under which its wheel is kept."""

    machine: Machine
    plan: Plan
    key: str


def recipe(environ: Mapping[str, str] = os.environ) -> Recipe:
    """Raises ``NoCompiler``."""
    machine = inspect(environ)
    users = {name.lower(): environ.get(name, "") for name in ("CMAKE_ARGS", "CXXFLAGS", "LDFLAGS")}
    plan = choose_flags(machine, **users)
    sources = (ENGINE_LOCK, TOOLS_LOCK, CMAKE_FILE)
    return Recipe(machine, plan, cache_key(machine, plan, "".join(p.read_text() for p in sources)))


@contextmanager
def wheel(wanted: Recipe, *, rebuild: bool = False) -> Iterator[Path]:
    """The wheel, for as long as the context lasts. Raises ``SetUpFailed``."""
    folder = cache_folder(os.environ) / wanted.key
    cached = next(folder.glob("*.whl"), None)
    if cached is not None and not rebuild:
        say(f"engine: already built for this machine ({cached.parent})")
        yield cached
        return
    with tempfile.TemporaryDirectory(prefix="llamaherd-engine-") as scratch:
        built = _build(wanted, Path(scratch))
        yield keep(built, folder) or built


def cache_folder(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "llamaherd/engine"


def keep(built: Path, folder: Path) -> Path | None:
    """Put a wheel into the cache, whole or not at all; ``None`` where that can't be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            built.open("rb") as source,
            tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as target,
        ):
            shutil.copyfileobj(source, target)
        return Path(target.name).replace(folder / built.name)
    except OSError as error:
        say(f"engine: not kept for the next time, {error}")
        return None


# --- building -------------------------------------------------------------------------------


def _build(wanted: Recipe, scratch: Path) -> Path:
    for note in wanted.plan.notes:
        say(f"engine: {note}")
    say(f"engine: compiling llama.cpp for this machine; about {_minutes(wanted)} minutes, once")
    python = make_venv(scratch / "tools")
    pip_install(python, "--no-deps", "-r", str(TOOLS_LOCK))
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    fetch = ["download", "-qq", "--retries=5", "--no-deps", "--no-binary=:all:", "--require-hashes"]
    run([*pip, *fetch, "--no-build-isolation", "-r", str(ENGINE_LOCK), "-d", str(scratch)])
    source = next(scratch.glob("*.tar.gz"))

    make = ["wheel", "-v", "--no-cache-dir", "--no-deps", "--no-build-isolation"]
    log = scratch / "build.log"
    environ = _build_environ(wanted, python.parent)
    status = _with_progress([*pip, *make, "-w", str(scratch), str(source)], environ, log)
    built = next(scratch.glob("*.whl"), None)
    if status != 0 or built is None:
        _fail(log)
    return built


def _build_environ(wanted: Recipe, tools: Path) -> dict[str, str]:
    environ = {**os.environ, "CXX": wanted.machine.compiler.path}
    if c := c_compiler(wanted.machine.compiler.path, os.environ):
        environ["CC"] = c
    environ["PATH"] = f"{tools}{os.pathsep}{environ.get('PATH', '')}"
    environ["CMAKE_GENERATOR"] = "Ninja"
    environ.setdefault("CMAKE_BUILD_PARALLEL_LEVEL", str(_jobs()))
    leave_out = f"-DCMAKE_PROJECT_llama.cpp_INCLUDE={CMAKE_FILE}"
    plan = Plan((leave_out, *wanted.plan.cmake_args), ())
    return environ | plan.environment


def _minutes(wanted: Recipe) -> int:
    work = _MINUTES + (_CUDA_MINUTES if "-DGGML_CUDA=ON" in wanted.plan.cmake_args else 0)
    return math.ceil(work / _jobs())


def _jobs() -> int:
    room = hardware.memory_available() // _MEMORY_PER_JOB
    return max(1, min(hardware.detect().threads, room))


def _with_progress(command: Sequence[str], environ: Mapping[str, str], log: Path) -> int:
    progress = Progress(sys.stderr)
    with (
        log.open("w") as out,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            out.write(line)
            if match := _STEP.match(line):
                progress.show(int(match[1]), int(match[2]))
    progress.end()
    return process.returncode


class Progress:
    """One line that counts up on a terminal, a line for every tenth elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._start = time.monotonic()
        self._tenth = 0
        self._shown = False

    def show(self, done: int, total: int) -> None:
        seconds = int(time.monotonic() - self._start)
        text = f"engine: {done} of {total} compiled, {seconds // 60}:{seconds % 60:02}"
        if self._stream.isatty():
            self._stream.write(f"\r{text}\x1b[K")
            self._shown = True
        elif done * 10 // total > self._tenth:
            self._tenth = done * 10 // total
            self._stream.write(f"{text}\n")
        self._stream.flush()

    def end(self) -> None:
        if self._shown:
            self._stream.write("\n")


def _fail(log: Path) -> NoReturn:
    FAILED_LOG.parent.mkdir(exist_ok=True)
    shutil.copyfile(log, FAILED_LOG)
    lines = log.read_text(errors="replace").splitlines()
    first = next((n for n, line in enumerate(lines) if re.search(r"\berror\b|FAILED:", line)), None)
    shown = lines[first : first + _TAIL] if first is not None else lines[-_TAIL:]
    raise SetUpFailed(
        "\n".join(shown) + f"\n\nThe engine could not be compiled. The whole log is in {FAILED_LOG}"
        "\nAnother compiler may do: CXX=clang++ CC=clang make engine"
    )


def main() -> int:
    try:
        wanted = recipe()
    except NoCompiler as error:
        say(str(error))
        return 1
    for note in wanted.plan.notes:
        say(note)
    print(wanted.plan.environment["CMAKE_ARGS"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
