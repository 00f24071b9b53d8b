"""``ollama create``: read a Modelfile, bring the files it names to the server, have it build."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Final

from llamaherd.cli.display import Progress, follow, progress
from llamaherd.cli.parsing import CommandError
from llamaherd.cli.session import Session
from llamaherd.cli.streams import read_all
from llamaherd.client import Client
from llamaherd.create.modelfile import Command, Modelfile
from llamaherd.create.request import create_request, local_files

DEFAULT_FILE: Final = "Modelfile"
STDIN: Final = "-"


def create(session: Session, model: str, *, file: str, quantize: str) -> None:
    client = session.client
    client.heartbeat()
    modelfile, folder = _read(file)
    with progress() as shown:
        shown.status("gathering model components")
        if modelfile is None:
            raise CommandError("no Modelfile or safetensors files found")
        files = LocalFiles(folder)
        request = {"model": model} | create_request(modelfile, files.gather)
        if quantize:
            request["quantize"] = quantize
        for digest, path in files.found.items():
            _upload(client, digest, path, shown)
        follow(client.create(request), shown)


class LocalFiles:
    """The files under ``folder`` that a Modelfile means, hashed; ``found`` is by digest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.found: dict[str, Path] = {}

    def gather(self, command: Command) -> dict[str, str] | None:
        """The digests, by name, of what FROM or ADAPTER name; None if they name no file."""
        files = local_files(command, self._folder)
        if files is None:
            return None
        digests = {name: _digest(path) for name, path in files.items()}
        self.found |= {digests[name]: path for name, path in files.items()}
        return digests


def _read(file: str) -> tuple[Modelfile | None, Path]:
    """The Modelfile and the folder that its paths start from; None for a file that isn't there.

    Without a file named, and without one of the usual name, the folder's own weights are meant.
    """
    if file == STDIN:
        return Modelfile.parse(read_all(sys.stdin.buffer, "the Modelfile")), Path.cwd()
    path = Path(file or DEFAULT_FILE).absolute()
    try:
        with path.open("rb") as content:
            return Modelfile.parse(read_all(content, str(path))), path.parent
    except FileNotFoundError:
        return None if file else Modelfile.parse("FROM ."), path.parent
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as content:
            return "sha256:" + hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error


def _upload(client: Client, digest: str, path: Path, shown: Progress) -> None:
    """Send the file, unless the server has it."""
    if client.has_blob(digest):
        return
    label = f"copying file {path.name}"
    try:
        with path.open("rb") as content:
            size = path.stat().st_size
            client.upload_blob(
                digest, content, size, lambda sent: shown.transfer(digest, label, sent, size)
            )
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
