"""The commands of a conversation: a line that begins with a slash in, what it means out. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from llamaherd.cli.repl import texts

#: What ``/show`` knows.
PARTS: Final = ("info", "license", "modelfile", "parameters", "system", "template")

#: What ``/set`` switches, each without a value.
MODES: Final = (
    "history",
    "nohistory",
    "wordwrap",
    "nowordwrap",
    "verbose",
    "quiet",
    "nothink",
    "noformat",
)


@dataclass(frozen=True, slots=True)
class Leave:
    pass


@dataclass(frozen=True, slots=True)
class Clear:
    pass


@dataclass(frozen=True, slots=True)
class Explain:
    """Nothing to do but to print ``text``: help, or what is wrong with the command."""

    text: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """No command, though it begins with a slash; ``name`` is its first word."""

    name: str


@dataclass(frozen=True, slots=True)
class ListModels:
    prefix: str


@dataclass(frozen=True, slots=True)
class Load:
    model: str


@dataclass(frozen=True, slots=True)
class Save:
    model: str


@dataclass(frozen=True, slots=True)
class Show:
    """``part`` is one of ``PARTS``."""

    part: str


@dataclass(frozen=True, slots=True)
class SetMode:
    """``mode`` is one of ``MODES``."""

    mode: str


@dataclass(frozen=True, slots=True)
class SetThink:
    """``level`` is empty where none was given."""

    level: str


@dataclass(frozen=True, slots=True)
class SetFormat:
    format: str


@dataclass(frozen=True, slots=True)
class SetParameter:
    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetSystem:
    text: str


Command = (
    Leave
    | Clear
    | Explain
    | Unknown
    | ListModels
    | Load
    | Save
    | Show
    | SetMode
    | SetThink
    | SetFormat
    | SetParameter
    | SetSystem
)


def parse(line: str, *, sees: bool = False) -> Command:
    """What the line means; ``Explain`` if it makes no sense. ``sees``: the model takes images."""
    match line.split():
        case ["/bye" | "/exit", *_]:
            return Leave()
        case ["/clear", *_]:
            return Clear()
        case ["/list", *words]:
            return ListModels(words[0] if words else "")
        case ["/load", model]:
            return Load(model)
        case ["/save", model]:
            return Save(model)
        case [("/load" | "/save") as name, *_]:
            return Explain(f"Usage:\n  {name} <modelname>\n")
        case ["/show", *words]:
            return _show(words)
        case ["/set", *words]:
            return _set(words, line)
        case ["/?" | "/help", *words]:
            return Explain(_help(words[0].removeprefix("/") if words else "", sees))
        case [name, *_]:
            return Unknown(name)
        case _:
            raise ValueError(f"no command: {line!r}")


def _help(topic: str, sees: bool) -> str:
    match topic:
        case "set":
            return texts.SET
        case "show":
            return texts.SHOW
        case "shortcut" | "shortcuts":
            return texts.SHORTCUTS
        case _:
            return texts.overview(sees=sees)


def _show(words: list[str]) -> Command:
    if not words:
        return Explain(texts.SHOW)
    part = words[0]
    return Show(part) if part in PARTS else Explain(texts.unknown(f"/show {part}"))


def _set(words: list[str], line: str) -> Command:
    match words:
        case []:
            return Explain(texts.SET)
        case ["parameter", name, first, *more]:
            return SetParameter(name, (first, *more))
        case ["parameter", *_]:
            return Explain(texts.PARAMETERS)
        case ["system"]:
            return Explain(texts.SET)
        case ["system", *_]:
            # The text as it was typed, with all its spaces.
            return SetSystem(line.split(None, 2)[2].rstrip())
        case ["think", *levels]:
            return SetThink(levels[0] if levels else "")
        case ["format", "json", *_]:
            return SetFormat("json")
        case ["format", *_]:
            return Explain(texts.NO_SUCH_FORMAT)
        case [mode, *_] if mode in MODES:
            return SetMode(mode)
        case _:
            return Explain(texts.unknown(f"/set {words[0]}"))
