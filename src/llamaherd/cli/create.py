"""``ollama create``: read a Modelfile, bring the files it names to the server, have it build."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from llamaherd.cli.deliver import Delivery
from llamaherd.cli.display import follow, progress
from llamaherd.cli.parsing import CommandError
from llamaherd.cli.session import Session
from llamaherd.cli.streams import read_all
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
        with Delivery(client, session.settings.models) as delivery:

            def gather(command: Command) -> dict[str, str] | None:
                files = local_files(command, folder)
                if files is None:
                    return None
                return {name: delivery.take(path) for name, path in files.items()}

            request = {"model": model} | create_request(modelfile, gather)
            if quantize:
                request["quantize"] = quantize
            delivery.bring(shown)
        follow(client.create(request), shown)


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
