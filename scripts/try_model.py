"""``make run``: a model at work, through the real server and command line.

The model comes from a GGUF file, ``MODEL``, or from the package, the prompt from ``PROMPT``. With
neither there is a tour of what the model of the package can do. Uses the server that runs on
``OLLAMA_HOST`` or starts one, and stops what it started. The model stays in the store, to go on.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from llamaherd.cli.exits import BROKEN_PIPE, INTERRUPTED
from llamaherd.cli.streams import drop_output
from llamaherd.client import Client
from llamaherd.config import Settings
from llamaherd.errors import LlamaherdError, ServerUnreachable
from scripts import tour

OLLAMA: Final = str(Path(sys.executable).with_name("ollama"))
DEFAULT_PROMPT: Final = "Once upon a time"

#: Seconds that a server may take until it answers.
_START_TIMEOUT: Final = 30.0


def main() -> int:
    given, prompt = os.environ.get("MODEL"), os.environ.get("PROMPT")
    file = Path(given).resolve() if given else None
    name = model_name(file) if file else tour.MODEL
    try:
        settings = Settings.from_environ()
        client = Client(settings.host, settings.api_key)
        with server(client):
            status = create(name, file) if file else 0
            if file or prompt:
                status = status or ollama("run", name, prompt or DEFAULT_PROMPT)
            else:
                tour.tour(client)
    except LlamaherdError as error:
        print(error.message, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        drop_output()
        return BROKEN_PIPE
    if status == 0:
        print(f"\nTo go on: {OLLAMA} serve & {OLLAMA} run {name}", file=sys.stderr)
    return status


def model_name(file: Path) -> str:
    """In a namespace of its own, so that no model of the user's is replaced."""
    return "try/" + (re.sub(r"[^A-Za-z0-9_.-]+", "-", file.stem).strip("-.") or "model")


def create(name: str, file: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        modelfile = Path(folder, "Modelfile")
        modelfile.write_text(f"FROM {file}\n")
        return ollama("create", name, "-f", str(modelfile))


def ollama(*arguments: str) -> int:
    return subprocess.run([OLLAMA, *arguments], check=False).returncode


@contextmanager
def server(client: Client) -> Iterator[None]:
    """A server that answers ``client``, for as long as the context lasts."""
    if answers(client):
        print(f"using the server at {client.address}", file=sys.stderr)
        yield
        return
    print(f"starting a server at {client.address}", file=sys.stderr)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([OLLAMA, "serve"], stdout=log, stderr=log)
        try:
            if not _comes_up(client, process):
                log.seek(0)
                sys.stderr.buffer.write(log.read())
                raise ServerUnreachable(f"no server came up at {client.address}")
            yield
        finally:
            process.terminate()
            process.wait()


def _comes_up(client: Client, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        if answers(client):
            return True
        time.sleep(0.05)
    return False


def answers(client: Client) -> bool:
    try:
        client.heartbeat()
    except LlamaherdError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
