"""The syntax tree of a Go template.

Nodes are immutable, so a changed template shares what it keeps with the original. ``pos`` is the
node's offset in characters in the template's text. ``str(node)`` is its source in Go's normal form,
as error messages quote it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from llamaherd.prompt.go_literals import Oversized
from llamaherd.prompt.go_text import quote


@dataclass(frozen=True, slots=True, eq=False)
class Bool:
    pos: int
    value: bool

    def __str__(self) -> str:
        return "true" if self.value else "false"


@dataclass(frozen=True, slots=True, eq=False)
class Number:
    pos: int
    source: str
    value: int | float | complex | Oversized

    def __str__(self) -> str:
        return self.source


@dataclass(frozen=True, slots=True, eq=False)
class String:
    pos: int
    source: str
    value: str

    def __str__(self) -> str:
        return self.source


@dataclass(frozen=True, slots=True, eq=False)
class Nil:
    pos: int

    def __str__(self) -> str:
        return "nil"


@dataclass(frozen=True, slots=True, eq=False)
class Dot:
    pos: int

    def __str__(self) -> str:
        return "."


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """``.A.B``: fields of the dot."""

    pos: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        return "".join(f".{name}" for name in self.names)


@dataclass(frozen=True, slots=True, eq=False)
class Variable:
    """``$x.A.B``: ``name`` has its dollar sign; ``names`` are the fields after it."""

    pos: int
    name: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ".".join((self.name, *self.names))


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    pos: int
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """``(pipeline).A.B``."""

    pos: int
    term: Operand
    names: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join((_operand_source(self.term), *self.names))


@dataclass(frozen=True, slots=True, eq=False)
class Command:
    """A function with its arguments, or a single operand."""

    pos: int
    args: tuple[Operand, ...]

    def __str__(self) -> str:
        return " ".join(map(_operand_source, self.args))


@dataclass(frozen=True, slots=True, eq=False)
class Pipe:
    """Commands, each given the value of the one before; the result may go into variables.

    ``assigns`` tells ``$x = `` from ``$x := ``.
    """

    pos: int
    commands: tuple[Command, ...]
    variables: tuple[Variable, ...] = ()
    assigns: bool = False

    def __str__(self) -> str:
        commands = " | ".join(map(str, self.commands))
        if not self.variables:
            return commands
        return f"{', '.join(map(str, self.variables))} {'=' if self.assigns else ':='} {commands}"


Operand: TypeAlias = Bool | Number | String | Nil | Dot | Field | Variable | Function | Chain | Pipe


def _operand_source(operand: Operand) -> str:
    return f"({operand})" if isinstance(operand, Pipe) else str(operand)


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    pos: int
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Action:
    """``{{ pipeline }}``: prints its value unless it sets variables."""

    pos: int
    pipe: Pipe

    def __str__(self) -> str:
        return f"{{{{{self.pipe}}}}}"


@dataclass(frozen=True, slots=True, eq=False)
class Invoke:
    """``{{ template "name" pipeline }}``."""

    pos: int
    name: str
    pipe: Pipe | None

    def __str__(self) -> str:
        argument = f" {self.pipe}" if self.pipe else ""
        return f"{{{{template {quote(self.name)}{argument}}}}}"


@dataclass(frozen=True, slots=True, eq=False)
class Break:
    pos: int


@dataclass(frozen=True, slots=True, eq=False)
class Continue:
    pos: int


@dataclass(frozen=True, slots=True, eq=False)
class _Branch:
    """``body`` runs where the pipeline's value is not empty, else ``otherwise``."""

    pos: int
    pipe: Pipe
    body: Block
    otherwise: Block


class If(_Branch):
    __slots__ = ()


class With(_Branch):
    __slots__ = ()


class Range(_Branch):
    __slots__ = ()


Node: TypeAlias = Text | Action | Invoke | If | With | Range | Break | Continue
Block: TypeAlias = tuple[Node, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A parsed template: its own ``name`` and, by name, it and all that it defines."""

    name: str
    text: str
    blocks: Mapping[str, Block]

    @property
    def root(self) -> Block:
        return self.blocks[self.name]

    def location(self, pos: int) -> str:
        """``name:line:column`` of a node, the column in bytes from 0 as Go counts it."""
        before = self.text[:pos]
        line_start = before.rfind("\n") + 1
        column = len(before[line_start:].encode("utf-8", "surrogatepass"))
        return f"{self.name}:{before.count(chr(10)) + 1}:{column}"


def identifiers(template: Template) -> frozenset[str]:
    """Names of all fields and variables (with their ``$``) that the template's actions use.

    Defined templates count too, whether anything invokes them or not.
    """
    return frozenset(name for block in template.blocks.values() for name in _names_in_block(block))


def _names_in_block(block: Block) -> Iterator[str]:
    for node in block:
        if isinstance(node, (Action, Invoke)) and node.pipe:
            yield from _names_in_pipe(node.pipe)
        elif isinstance(node, _Branch):
            yield from _names_in_pipe(node.pipe)
            yield from _names_in_block(node.body)
            yield from _names_in_block(node.otherwise)


def _names_in_pipe(pipe: Pipe) -> Iterator[str]:
    for command in pipe.commands:
        for operand in command.args:
            yield from _names_in_operand(operand)


def _names_in_operand(operand: Operand) -> Iterator[str]:
    match operand:
        case Field(names=names):
            yield from names
        case Variable(name=name, names=names):
            yield name
            yield from names
        case Chain(term=term, names=names):
            yield from _names_in_operand(term)
            yield from names
        case Pipe():
            yield from _names_in_pipe(operand)


def cut_after_field(template: Template, name: str) -> Template:
    """The template up to and including the first action that prints the field ``.name``.

    Ollama ends a prompt there, so that a turn's closing marks don't follow an answer that is yet to
    be written. Conditions don't count as printing. The cut goes through the action itself: in
    ``{{ print .Response "</s>" }}`` the argument after the field goes too.
    """
    root = _Cut(name).block(template.root)
    return replace(template, blocks={**template.blocks, template.name: root})


class _Cut:
    def __init__(self, field: str) -> None:
        self._field = field
        self._done = False

    def block(self, block: Block) -> Block:
        kept: list[Node] = []
        for node in block:
            if self._done:
                break
            kept.append(self._node(node))
        return tuple(kept)

    def _node(self, node: Node) -> Node:
        if isinstance(node, Action):
            return Action(node.pos, self._pipe(node.pipe))
        if isinstance(node, _Branch):
            # Only one of the branches runs, so each is cut for itself.
            body, otherwise = _Cut(self._field), _Cut(self._field)
            cut = type(node)(
                node.pos, node.pipe, body.block(node.body), otherwise.block(node.otherwise)
            )
            self._done = body._done or otherwise._done
            return cut
        return node

    def _pipe(self, pipe: Pipe) -> Pipe:
        # Later commands stay: they shape the field's own value.
        commands = tuple(
            command if self._done else Command(command.pos, self._args(command.args))
            for command in pipe.commands
        )
        return replace(pipe, commands=commands)

    def _args(self, args: tuple[Operand, ...]) -> tuple[Operand, ...]:
        kept: list[Operand] = []
        for operand in args:
            if self._done:
                break
            if isinstance(operand, Field) and self._field in operand.names:
                self._done = True
            kept.append(self._pipe(operand) if isinstance(operand, Pipe) else operand)
        return tuple(kept)
