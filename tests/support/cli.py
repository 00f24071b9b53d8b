"""Running the command line, and what a real Ollama printed for the same commands."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

TRANSCRIPT: Final = Path(__file__).parents[1] / "data" / "cli-transcript.txt"

_ENTRY: Final = re.compile(
    r"^### ollama (?P<command>.*)\n\[exit (?P<code>\d+)\]\n"
    r"\[stdout\]\n(?P<stdout>(?s:.*?))\[stderr\]\n(?P<stderr>(?s:.*?))(?=^###|\Z)",
    re.MULTILINE,
)


class Outcome(NamedTuple):
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str


def recorded(command: str, occurrence: int = 0) -> Outcome:
    """What a real Ollama printed for ``ollama <command>``, with the n-th time it was run."""
    entries = [
        Outcome(int(entry["code"]), entry["stdout"], entry["stderr"].rstrip("\n") + "\n")
        for entry in _ENTRY.finditer(TRANSCRIPT.read_text())
        if entry["command"] == command
    ]
    return entries[occurrence]


def ollama(
    *arguments: str,
    stdin: str | bytes = b"",
    host: str = "127.0.0.1:9",
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    """Run the program as a person does, in ``folder``, against the server at ``host``."""
    done = subprocess.run(
        [sys.executable, "-m", "llamaherd", *arguments],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "OLLAMA_HOST": host, **(environment or {})},
        timeout=60,
        check=False,
    )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())
