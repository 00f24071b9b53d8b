"""Makes .venv ready: locked dependencies, the engine compiled for this machine, ourselves.

``python -m scripts.set_up`` from the root of the repository, with ``src`` on PYTHONPATH; that is
what ``make`` does. ``--dev`` adds what tests, lint and benchmarks need: clients of all kinds, which
take three times the space of the rest. A stamp is written last and names all that went in, so a
second run costs nothing, a changed lock file runs it again, and an interrupted run is never taken
for a whole one. ``--rebuild-engine`` compiles again, whatever the cache has.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from scripts import build_engine
from scripts.build_engine import ROOT
from scripts.machine import NoCompiler
from scripts.venvs import SetUpFailed, make_venv, pip_install, say

VENV: Final = ROOT / ".venv"
STAMP: Final = VENV / "set-up.json"
LOCK: Final = ROOT / "requirements/run.lock"
DEV_STAMP: Final = VENV / "dev.json"
DEV_LOCK: Final = ROOT / "requirements/dev.lock"

#: Exists while packages are being installed; found at the start, it marks a broken environment.
UNFINISHED: Final = VENV / "set-up.unfinished"

#: Which build of the engine is installed, for the next run and for a curious person.
ENGINE: Final = VENV / "engine.json"

RUN_INPUTS: Final = (
    "pyproject.toml",
    "requirements/run.lock",
    "requirements/engine*.lock",
    "scripts/engine*",
    "scripts/set_up.py",
)
DEV_INPUTS: Final = (*RUN_INPUTS, "requirements/dev.lock")


def set_up(*, dev: bool = False, rebuild_engine: bool = False) -> None:
    """Raises ``SetUpFailed`` or ``NoCompiler``."""
    with _alone():
        with _stamped(STAMP, inputs_digest(ROOT, RUN_INPUTS), anyway=rebuild_engine) as is_due:
            if is_due:
                _install_all(rebuild_engine=rebuild_engine)
        if dev:
            with _stamped(DEV_STAMP, inputs_digest(ROOT, DEV_INPUTS)) as is_due:
                if is_due:
                    say("installing what tests and lint need")
                    _install(VENV / "bin/python", "--require-hashes", "-r", str(DEV_LOCK))
                    say("ready")


def _install_all(*, rebuild_engine: bool) -> None:
    python = _environment()
    say("installing the locked dependencies")
    _install(python, "--require-hashes", "-r", str(LOCK))
    _install_engine(python, rebuild=rebuild_engine)
    _install(python, "--no-build-isolation", "-e", str(ROOT))
    _prove(python)
    say("ready")


@contextmanager
def _stamped(stamp: Path, digest: str, *, anyway: bool = False) -> Iterator[bool]:
    """Whether there is something to do; afterwards the stamp says that it was done."""
    started = time.time_ns()
    is_due = anyway or not is_ready(stamp, digest)
    if is_due:
        stamp.unlink(missing_ok=True)
    yield is_due
    if is_due:
        stamp.write_text(json.dumps({"inputs": digest}))
    # What changed while this ran must look newer to make.
    os.utime(stamp, ns=(started, started))


def inputs_digest(root: Path, patterns: Sequence[str] = DEV_INPUTS) -> str:
    """Of all files that decide what the environment holds."""
    paths = sorted(path for pattern in patterns for path in root.glob(pattern))
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(root)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def is_ready(stamp: Path, digest: str) -> bool:
    try:
        found = json.loads(stamp.read_text())
    except (OSError, ValueError):
        return False
    return bool(found.get("inputs") == digest)


def _environment() -> Path:
    """The Python of .venv: the one that is there where it's whole and of our version, or new."""
    python = VENV / "bin/python"
    if not UNFINISHED.exists() and _version_of(python) == list(sys.version_info[:2]):
        return python
    say(f"making .venv with Python {sys.version_info[0]}.{sys.version_info[1]}")
    return make_venv(VENV)


def _version_of(python: Path) -> object:
    code = "import json, pip, sys; print(json.dumps(sys.version_info[:2]))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return json.loads(done.stdout)


def _install(python: Path, *arguments: str) -> None:
    UNFINISHED.touch()
    pip_install(python, "--no-deps", *arguments)
    UNFINISHED.unlink()


def _install_engine(python: Path, *, rebuild: bool) -> None:
    wanted = build_engine.recipe()
    if not rebuild and _installed_engine(python) == wanted.key:
        return
    with build_engine.wheel(wanted, rebuild=rebuild) as wheel:
        _install(python, "--no-index", "--force-reinstall", str(wheel))
    ENGINE.write_text(
        json.dumps(
            {
                "key": wanted.key,
                "compiler": str(wanted.machine.compiler),
                "cmake_args": wanted.plan.cmake_args,
            },
            indent=2,
        )
    )


def _installed_engine(python: Path) -> str | None:
    """The key of the engine's build, if it's still there."""
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('llama_cpp') is None)"
    if subprocess.run([python, "-c", code], check=False).returncode != 0:
        return None
    try:
        return str(json.loads(ENGINE.read_text())["key"])
    except (OSError, ValueError, KeyError):
        return None


def _prove(python: Path) -> None:
    """A build that computes wrongly is no reason to stop: the runner falls back by itself."""
    test = [str(python), "-m", "llamaherd.llama.selftest"]
    if subprocess.run(test, capture_output=True, check=False).returncode != 0:
        say(
            "the engine was compiled, but fails its self-test; models will run without the layouts "
            "that need special instructions. '.venv/bin/ollama doctor' says more"
        )


@contextmanager
def _alone() -> Iterator[None]:
    """One set-up at a time in this folder; the lock goes when the process ends, however it ends."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is running here; waiting for it")
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make .venv ready.")
    parser.add_argument("--dev", action="store_true", help="add what tests and lint need")
    parser.add_argument("--rebuild-engine", action="store_true", help="compile it in any case")
    options = parser.parse_args(arguments)
    try:
        set_up(dev=options.dev, rebuild_engine=options.rebuild_engine)
    except (SetUpFailed, NoCompiler) as error:
        say(f"\n{error}")
        return 1
    except KeyboardInterrupt:
        say("\ninterrupted; the next make goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
