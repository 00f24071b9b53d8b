"""``ollama create``: read a Modelfile, bring the files it names to the server, have it build."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from llamaherd.cli.components import Component, recipe
from llamaherd.cli.display import Progress, follow, progress
from llamaherd.cli.parsing import CommandError
from llamaherd.cli.session import Session
from llamaherd.client import Client, Object
from llamaherd.create.modelfile import Modelfile

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
        wanted = recipe(modelfile, folder)
        request: Object = {"model": model} | wanted.fields
        if quantize:
            request["quantize"] = quantize
        for component in wanted.components:
            _upload(client, component, shown)
        follow(client.create(request), shown)


def _read(file: str) -> tuple[Modelfile | None, Path]:
    """The Modelfile and the folder that its paths start from; None for a file that isn't there.

    Without a file named, and without one of the usual name, the folder's own weights are meant.
    """
    if file == STDIN:
        content = b"" if sys.stdin is None else sys.stdin.buffer.read()
        return Modelfile.parse(content), Path.cwd()
    path = Path(file or DEFAULT_FILE).absolute()
    try:
        return Modelfile.parse(path.read_bytes()), path.parent
    except FileNotFoundError:
        return None if file else Modelfile.parse("FROM ."), path.parent
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error


def _upload(client: Client, component: Component, shown: Progress) -> None:
    """Send the file, unless the server has it."""
    if client.has_blob(component.digest):
        return
    label = f"copying file {component.digest}"
    try:
        with component.path.open("rb") as source:
            size = component.path.stat().st_size
            client.upload_blob(
                component.digest,
                source,
                size,
                lambda sent: shown.transfer(component.digest, label, sent, size),
            )
    except OSError as error:
        raise CommandError(f"{component.path}: {error.strerror}") from error
