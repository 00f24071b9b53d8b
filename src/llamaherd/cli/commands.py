"""The commands that ask the server one thing; those with more to do are imported when wanted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from llamaherd.cli.display import Spinner, follow, progress
from llamaherd.cli.listings import running_models, stored_models
from llamaherd.cli.parsing import CommandError
from llamaherd.cli.session import Session
from llamaherd.cli.show import model_report
from llamaherd.config import Settings
from llamaherd.errors import ServerError, ServerUnreachable
from llamaherd.version import OLLAMA_VERSION


def serve(session: Session, arguments: Sequence[str]) -> int:
    from llamaherd.server.lifecycle import serve as run_server

    return run_server(session.settings)


def doctor(session: Session, arguments: Sequence[str], *, json: bool) -> int:
    from llamaherd.doctor import run as examine

    settings, complaints = Settings.tolerant()
    return examine(settings, json, complaints)


def create(session: Session, arguments: Sequence[str], *, file: str, quantize: str) -> None:
    from llamaherd.cli.create import create as build

    build(session, arguments[0], file=file, quantize=quantize)


def run(session: Session, arguments: Sequence[str], **flags: Any) -> int:
    from llamaherd.cli.run import run as answer

    return answer(session, arguments, **flags)


def list_models(session: Session, arguments: Sequence[str]) -> None:
    prefix = arguments[0] if arguments else ""
    sys.stdout.write(stored_models(session.client.models(), prefix, datetime.now(UTC)))


def ps(session: Session, arguments: Sequence[str]) -> None:
    prefix = arguments[0] if arguments else ""
    sys.stdout.write(running_models(session.client.running(), prefix, datetime.now(UTC)))


def show(session: Session, arguments: Sequence[str], *, verbose: bool, **parts: bool) -> None:
    wanted = [part for part, chosen in parts.items() if chosen]
    if len(wanted) > 1:
        raise CommandError(
            "only one of '--license', '--modelfile', '--parameters', '--system',"
            " or '--template' can be specified"
        )
    model = session.client.show(arguments[0], verbose=verbose)
    if not wanted:
        sys.stdout.write(model_report(model, verbose=verbose))
        return
    text = str(model.get(wanted[0]) or "")
    # What a model reads is printed to the byte, so that it can be piped to where it is needed.
    sys.stdout.write(text if wanted[0] in ("system", "template") else text + "\n")


def copy(session: Session, arguments: Sequence[str]) -> None:
    source, destination = arguments
    session.client.copy(source, destination)
    print(f"copied '{source}' to '{destination}'")


def remove(session: Session, arguments: Sequence[str]) -> None:
    for model in arguments:
        try:
            session.client.unload(model)
        except ServerError as error:
            # A damaged model can't be asked for, which is one more reason to remove it.
            if error.status != 404:
                print(f"Warning: unable to stop model '{model}': {error.message}", file=sys.stderr)
        session.client.delete(model)
        print(f"deleted '{model}'")


def stop(session: Session, arguments: Sequence[str]) -> None:
    model = arguments[0]
    try:
        with Spinner():
            session.client.unload(model)
    except ServerError as error:
        if error.status == 404:
            raise CommandError(f'couldn\'t find model "{model}" to stop') from error
        raise


def pull(session: Session, arguments: Sequence[str], *, insecure: bool) -> None:
    with progress() as shown:
        follow(session.client.pull(arguments[0], insecure=insecure), shown)


def push(session: Session, arguments: Sequence[str], *, insecure: bool) -> None:
    from llamaherd.store.names import DEFAULT_HOST, Name

    try:
        with progress() as shown:
            follow(session.client.push(arguments[0], insecure=insecure), shown)
    except ServerError as error:
        if "access denied" in error.message:
            raise CommandError(
                "you are not authorized to push to this namespace, create the model under a"
                " namespace you own"
            ) from error
        raise
    name = Name.parse(arguments[0])
    page = name.full
    if name.host == DEFAULT_HOST:
        page = "https://ollama.com/" + name.short.removesuffix(":latest")
    print(f"\nYou can find your model at:\n\n\t{page}")


def version(session: Session) -> None:
    """The server's version, and the client's if that is another."""
    server = ""
    try:
        server = session.client.version()
    except ServerUnreachable:
        print("Warning: could not connect to a running Ollama instance")
    except ServerError as error:
        print(f"Warning: the server didn't tell its version: {error.message}")
    if server:
        print(f"ollama version is {server}")
    if server != OLLAMA_VERSION:
        print(f"Warning: client version is {OLLAMA_VERSION}")
