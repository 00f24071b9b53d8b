"""Questions to the engine, each asked in a child process, which may crash over them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Final

#: Seconds; the slowest machine with the slowest driver needs a part of it.
TIMEOUT: Final = 120.0


@dataclass(frozen=True, slots=True)
class Answer:
    """``report`` is what the child printed, ``None`` if it didn't come to that.

    ``ending`` says how it went wrong; empty if it ended well.
    """

    report: dict[str, Any] | None
    ending: str = ""

    @property
    def sound(self) -> bool:
        return self.report is not None and not self.ending


def ask(module: str, *arguments: str, timeout: float = TIMEOUT) -> Answer:
    """Run a module of ``llamaherd.llama`` that prints JSON."""
    # -P keeps a folder named llamaherd in the working directory from being run instead.
    command = [sys.executable, "-P", "-m", f"llamaherd.llama.{module}", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return Answer(None, f"no end after {timeout:g} s")
    return Answer(_parse(done.stdout), _ending(done.returncode, done.stderr))


def _parse(text: str) -> dict[str, Any] | None:
    try:
        report = json.loads(text)
    except ValueError:
        return None
    return report if isinstance(report, dict) else None


def _ending(status: int, errors: str) -> str:
    if status == 0:
        return ""
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    last = next((line for line in reversed(errors.splitlines()) if line.strip()), "")
    return last.strip() or f"status {status}"
