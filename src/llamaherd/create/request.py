"""From a Modelfile to the request that creates the model."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from llamaherd.create.modelfile import Command, Modelfile
from llamaherd.create.shards import ShardName
from llamaherd.errors import BadRequest, ModelfileError, NotFound, OptionError
from llamaherd.options import OPTIONS, check_option

_log: Final = logging.getLogger(__name__)

#: Parameters of old Modelfiles that no longer do anything.
RETIRED_PARAMETERS: Final = ("f16_kv", "logits_all", "vocab_only")

_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_FLOAT: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_BOOLEANS: Final = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}

#: What a folder's weights may be called; the first pattern that matches anything counts.
_WEIGHTS: Final = (
    ("model*.safetensors", "*/model*.safetensors"),
    ("consolidated*.safetensors",),
    ("pytorch_model*.bin",),
    ("consolidated*.pth",),
    ("*.gguf",),
    ("*.bin",),
)
_ADAPTERS: Final = (
    ("adapter_model*.safetensors",),
    ("adapters.safetensors",),
    ("*.gguf",),
)
_ADAPTER_COMPANIONS: Final = ("adapter_config.json",)

_COMPANIONS: Final = (
    "*.json",
    "*/*.json",
    "tokenizer.model",
    "*/tokenizer.model",
    "chat_template.jinja",
)

#: The digests by file name of what FROM or ADAPTER mean; None when nothing is there.
Upload = Callable[[Command], Mapping[str, str] | None]


def create_request(modelfile: Modelfile, upload: Upload) -> dict[str, Any]:
    """The body for ``/api/create``, without ``model``.

    ``upload`` is asked for each FROM and ADAPTER; a FROM for which it has nothing names a model.
    Raises ``ModelfileError`` for parameters that don't exist or have values of the wrong kind.
    """
    request: dict[str, Any] = {}
    adapters: list[Mapping[str, str]] = []
    for command in modelfile.commands:
        match command.instruction:
            case "from":
                if (files := upload(command)) is None:
                    request["from"] = command.value
                else:
                    _add_files(request.setdefault("files", {}), files, command)
            case "adapter":
                if (files := upload(command)) is None:
                    raise ModelfileError(f"no adapter at {command.value}", command.line)
                adapters.append(files)
            case "template" | "system":
                request[command.instruction] = command.value
            case "license":
                request.setdefault("license", []).append(command.value)
            case "message":
                message = {"role": command.key, "content": command.value}
                request.setdefault("messages", []).append(message)
            case "parameter":
                _add_parameter(request, command)
    if adapters:
        request["adapters"] = _adapter_files(adapters)
    return request


def _add_files(known: dict[str, str], files: Mapping[str, str], command: Command) -> None:
    """Two folders of one model may share files, but a name can't stand for two different ones."""
    for name, digest in files.items():
        if known.setdefault(name, digest) != digest:
            message = f"{command.value}: another file is named {name} already"
            raise ModelfileError(message, command.line)


def _adapter_files(adapters: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """All in one table: where there are several, each in a folder of its own, named in order.

    A single one keeps the names that Ollama's client sends.
    """
    if len(adapters) == 1:
        return dict(adapters[0])
    width = len(str(len(adapters)))
    return {
        f"{number:0{width}}/{name}": digest
        for number, files in enumerate(adapters, start=1)
        for name, digest in files.items()
    }


def _add_parameter(request: dict[str, Any], command: Command) -> None:
    if command.key in RETIRED_PARAMETERS:
        _log.warning("parameter %s is deprecated and does nothing", command.key)
        return
    try:
        value = parse_parameter(command.key, command.value)
    except BadRequest as error:
        raise ModelfileError(str(error), command.line) from error
    parameters = request.setdefault("parameters", {})
    if isinstance(value, list):
        parameters.setdefault(command.key, []).extend(value)
    else:
        parameters[command.key] = value


def parse_parameter(name: str, text: str) -> Any:
    """The value that a person wrote, in the type that the option has.

    Lists (``stop``) come with one element. Raises ``BadRequest`` in the words of Ollama's client.
    """
    spec = OPTIONS.get(name)
    if spec is None:
        raise BadRequest(f"unknown parameter '{name}'")
    value: Any
    match spec.kind:
        case "[]string":
            return [text]
        case "bool":
            value = _BOOLEANS.get(text)
        case "int":
            value = int(text) if _INTEGER.fullmatch(text) and len(text) < 20 else None
        case "float32":
            value = float(text) if _FLOAT.fullmatch(text) else None
            value = value if value is not None and math.isfinite(value) else None
    if value is None:
        raise BadRequest(f"invalid {spec.kind.removesuffix('32')} value [{text}]")
    try:
        return check_option(name, value)
    except OptionError as error:
        raise BadRequest(str(error)) from error


def local_files(command: Command, folder: Path) -> dict[str, Path] | None:
    """The files that FROM or ADAPTER mean, by their names in the request; None if there are none.

    A path is relative to ``folder``, where the Modelfile is, and ``~`` is the home folder. Of a
    folder, all that makes up a model or an adapter is taken; of a shard, all shards. Raises
    ``NotFound`` when nothing in it does, and ``BadRequest`` when a link leads out of it, when a
    shard is missing, or for what is no file, such as a device.
    """
    try:
        path = folder / Path(command.value).expanduser()
        if not path.exists():
            return None
    except (OSError, ValueError, RuntimeError):
        return None
    is_adapter = command.instruction == "adapter"
    if path.is_file():
        return _with_companions(path, is_adapter)
    if not path.is_dir():
        raise BadRequest(f"{path} is neither a file nor a folder")
    weights = _ADAPTERS if is_adapter else _WEIGHTS
    found = next(filter(None, (_glob(path, patterns) for patterns in weights)), None)
    if found is None:
        raise NotFound("no Modelfile or safetensors files found")
    files = {}
    for file in (*found, *_glob(path, _ADAPTER_COMPANIONS if is_adapter else _COMPANIONS)):
        if not file.resolve().is_relative_to(path.resolve()):
            raise BadRequest(f"insecure path: {file} is a link that leads out of {path}")
        files[file.relative_to(path).as_posix()] = file
    return files


def _with_companions(path: Path, is_adapter: bool) -> dict[str, Path]:
    """A file, and those beside it without which it is nothing."""
    names = [path.name]
    shard = ShardName.parse(path.name)
    if is_adapter and path.suffix == ".safetensors":
        names += [name for name in _ADAPTER_COMPANIONS if path.with_name(name).is_file()]
    elif shard is not None and 1 <= shard.number <= shard.count:
        names = [str(shard.sibling(number + 1)) for number in range(shard.count)]
    folders = (path.parent.resolve(), path.resolve().parent)
    for file in map(path.with_name, names):
        if not file.is_file():
            raise BadRequest(f"{file.name} is missing beside {path.name}")
        if file.resolve().parent not in folders:
            raise BadRequest(f"insecure path: {file} is a link that leads out of {path.parent}")
    return {name: path.with_name(name) for name in names}


def _glob(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return [file for pattern in patterns for file in sorted(folder.glob(pattern)) if file.is_file()]
