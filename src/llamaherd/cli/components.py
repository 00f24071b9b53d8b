"""What a Modelfile asks for, seen from the client: request fields, and local files by content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llamaherd.cli.parsing import CommandError
from llamaherd.client import Object
from llamaherd.create.modelfile import Command, Modelfile
from llamaherd.options import OPTIONS, OptionSpec, check_option

Role = Literal["files", "adapters"]


@dataclass(frozen=True, slots=True)
class Component:
    """A file to upload: under which field and name the request lists its ``sha256:`` digest."""

    role: Role
    name: str
    path: Path
    digest: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """A create request without its model, and the files that the server must have for it."""

    fields: Object
    components: tuple[Component, ...]


def recipe(modelfile: Modelfile, folder: Path) -> Recipe:
    """Paths start from ``folder``; a FROM that is no path there is the name of a model.

    Raises ``CommandError`` for a file that can't be read or a parameter that can't be.
    """
    fields: Object = {}
    components: list[Component] = []
    for command in modelfile.commands:
        match command.instruction:
            case "from":
                path = _local(command.value, folder)
                if path.exists():
                    components += _components("files", path)
                else:
                    fields["from"] = command.value
            case "adapter":
                components += _components("adapters", _local(command.value, folder))
            case "template" | "system":
                fields[command.instruction] = command.value
            case "license":
                fields.setdefault("license", []).append(command.value)
            case "message":
                message = {"role": command.key, "content": command.value}
                fields.setdefault("messages", []).append(message)
            case "parameter":
                _set_parameter(fields.setdefault("parameters", {}), command)
    for component in components:
        fields.setdefault(component.role, {})[component.name] = component.digest
    return Recipe(fields, tuple(components))


def model_files(path: Path) -> list[Path]:
    """The files of a model or adapter at ``path``.

    A file is itself. A folder is its safetensors with the JSON files and the SentencePiece model
    beside them, or else its GGUF files. Raises ``CommandError`` for a folder that has neither.
    """
    if not path.is_dir():
        return [path]
    weights = sorted(path.glob("*.safetensors"))
    beside = [*sorted(path.glob("*.json")), *path.glob("tokenizer.model")] if weights else []
    found = [file for file in weights or sorted(path.glob("*.gguf")) if file.is_file()]
    if not found:
        raise CommandError("no Modelfile or safetensors files found")
    return found + beside


def file_digest(path: Path) -> str:
    """``sha256:`` and the hash of the file's bytes. Raises ``CommandError`` if it can't be read."""
    try:
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error


def _local(value: str, folder: Path) -> Path:
    return folder / Path(value).expanduser()


def _components(role: Role, path: Path) -> Iterator[Component]:
    for file in model_files(path):
        yield Component(role, file.name, file, file_digest(file))


def _set_parameter(parameters: Object, command: Command) -> None:
    """Add one parameter in its type; lists grow, anything else is replaced."""
    name = command.key.lower()
    spec = OPTIONS.get(name)
    if spec is None:
        raise CommandError(f"unknown parameter '{command.key}'")
    value = check_option(name, _typed(spec, command.value))
    if spec.kind == "[]string":
        parameters[name] = [*parameters.get(name, ()), *value]
    else:
        parameters[name] = value


def _typed(spec: OptionSpec, text: str) -> Any:
    try:
        match spec.kind:
            case "int":
                return int(text)
            case "float32":
                return float(text)
            case "bool":
                return {"true": True, "false": False}[text.lower()]
    except (ValueError, KeyError) as error:
        kind = spec.kind.removesuffix("32")
        raise CommandError(f"invalid {kind} value {text!r} for parameter {spec.name}") from error
    return text
