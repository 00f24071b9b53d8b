"""Running the command line, and what a real Ollama printed for the same commands."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
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
    patience: float = 60,
) -> Outcome:
    """Run the program as a person does, in ``folder``, against the server at ``host``.

    It fails if it takes more than ``patience`` seconds.
    """
    done = subprocess.run(
        [sys.executable, "-m", "llamaherd", *arguments],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "OLLAMA_HOST": host, **(environment or {})},
        timeout=patience,
        check=False,
    )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


class Terminal:
    """The program in a terminal of 80 by 24; ``shown`` is all that it has written so far."""

    def __init__(
        self,
        *arguments: str,
        host: str,
        home: Path,
        folder: Path | None = None,
        kind: str = "xterm-256color",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._side, other = pty.openpty()
        termios.tcsetwinsize(other, (24, 80))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "llamaherd", *arguments],
            stdin=other,
            stdout=other,
            stderr=other,
            cwd=folder,
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(home),
                "OLLAMA_HOST": host,
                "TERM": kind,
                **(environment or {}),
                "PROMPT_TOOLKIT_NO_CPR": "1",  # Nobody here answers where the cursor is.
            },
            start_new_session=True,
        )
        os.close(other)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._side, text.encode())

    def interrupt(self) -> None:
        """What Ctrl-C does to a program that reads no keys."""
        self._process.send_signal(signal.SIGINT)

    def wait_for(self, *texts: str) -> str:
        """Read until all ``texts`` were written since the last wait; what was written since.

        Fails after a minute without them.
        """
        start = len(self.shown)
        while missing := [text for text in texts if text not in self.shown[start:]]:
            ready, _, _ = select.select([self._side], [], [], 60)
            assert ready, f"{missing} did not come, only {self.shown[start:]!r}"
            assert self._read(), f"the program ended before {missing}: {self.shown[start:]!r}"
        return self.shown[start:]

    def end(self) -> int:
        """Read what is left; the exit code."""
        while self._read():
            pass
        os.close(self._side)
        return self._process.wait(60)

    def kill(self) -> None:
        """End the program if a test that failed has left it."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
            os.close(self._side)

    def _read(self) -> bool:
        try:
            data = os.read(self._side, 4096)
        except OSError:  # The other side is closed: on Linux an error, not an empty read.
            return False
        self.shown += data.decode("utf-8", "replace")
        return bool(data)
