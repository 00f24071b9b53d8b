"""Virtual environments, as the set-up makes and fills them."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


class SetUpFailed(Exception):
    """A step of the set-up failed; the message says what to do."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def make_venv(folder: Path) -> Path:
    """A new, empty virtual environment; the path of its Python. Raises ``SetUpFailed``."""
    command = [sys.executable, "-m", "venv", "--clear", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SetUpFailed(
            f"{shlex.join(command)} failed:\n{done.stdout}{done.stderr}"
            "On Debian and Ubuntu: apt-get install python3-venv"
        )
    return folder / "bin/python"


def pip_install(python: Path, *arguments: str) -> None:
    """Raises ``SetUpFailed``; pip itself has told why by then."""
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-qq", "--retries=5"]
    run([*pip, *arguments])


def run(command: Sequence[str]) -> None:
    """Run a program whose output is for people. Raises ``SetUpFailed``."""
    status = subprocess.run(command, stdout=sys.stderr, check=False).returncode
    if status != 0:
        raise SetUpFailed(f"{shlex.join(command)} failed with status {status}")
