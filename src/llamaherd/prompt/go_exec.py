"""Runs a parsed Go template over its data (``text/template``, option ``missingkey=zero``).

Errors carry Go's words, place and context. The work is bounded: see ``go_limits``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import NoReturn

from llamaherd.errors import TemplateError
from llamaherd.prompt.go_ast import (
    Action,
    Block,
    Bool,
    Break,
    Chain,
    Command,
    Continue,
    Dot,
    Field,
    If,
    Invoke,
    Nil,
    Node,
    Number,
    Operand,
    Pipe,
    Range,
    String,
    Template,
    Text,
    Variable,
    With,
)
from llamaherd.prompt.go_ast import Function as FunctionName
from llamaherd.prompt.go_funcs import FUNCTIONS, CallError, Function
from llamaherd.prompt.go_limits import Meter
from llamaherd.prompt.go_literals import Oversized
from llamaherd.prompt.go_print import sprint
from llamaherd.prompt.go_text import clean, quote
from llamaherd.prompt.go_values import (
    ANY,
    NO_VALUE,
    GoStruct,
    Uint8,
    Value,
    element,
    is_true,
    type_name,
)


def execute(template: Template, data: Mapping[str, object]) -> str:
    """What the template prints for the data; raises TemplateError."""
    run = _Execution(template, Meter())
    try:
        run.template(template.name, Value(dict(data)))
    except RecursionError:
        raise TemplateError(f"template: {template.name}: nested too deeply") from None
    return clean("".join(run.output))


class _Flow(Enum):
    """How a block ended."""

    ON = auto()
    BREAK = auto()
    CONTINUE = auto()


class _Variables:
    """Variables by name, the newest of a name first to be found."""

    def __init__(self, root: Value) -> None:
        self._values: dict[str, list[Value]] = {"$": [root]}
        self._order: list[str] = []

    def declare(self, name: str, value: Value) -> None:
        self._values.setdefault(name, []).append(value)
        self._order.append(name)

    def assign(self, name: str, value: Value) -> None:
        """KeyError if there is none of the name."""
        self.value(name)
        self._values[name][-1] = value

    def value(self, name: str) -> Value:
        """KeyError if there is none of the name."""
        values = self._values.get(name)
        if not values:
            raise KeyError(name)
        return values[-1]

    def mark(self) -> int:
        return len(self._order)

    def leave(self, mark: int) -> None:
        """Forget the variables declared since the mark."""
        while len(self._order) > mark:
            self._values[self._order.pop()].pop()


class _Execution:
    """One run of a template: its output so far, its variables and where it is."""

    def __init__(self, template: Template, meter: Meter) -> None:
        self.output: list[str] = []
        self._template = template
        self._meter = meter
        self._name = template.name  # of the template that runs now
        self._variables = _Variables(NO_VALUE)
        self._at: Action | Invoke | Command | Operand | None = None  # for errors

    def template(self, name: str, dot: Value) -> None:
        outer = self._name, self._variables
        self._name, self._variables = name, _Variables(dot)
        self._block(self._template.blocks[name], dot)
        self._name, self._variables = outer

    def _fail(self, message: str) -> NoReturn:
        assert self._at is not None
        place = self._template.location(self._at.pos)
        raise TemplateError(
            f"template: {place}: executing {quote(self._name)} at <{self._at}>: {message}"
        )

    # Blocks

    def _block(self, block: Block, dot: Value) -> _Flow:
        self._meter.enter()
        for node in block:
            flow = self._node(node, dot)
            if flow is not _Flow.ON:
                break
        else:
            flow = _Flow.ON
        self._meter.leave()
        return flow

    def _node(self, node: Node, dot: Value) -> _Flow:
        self._meter.step()
        match node:
            case Text():
                self._write(node.text)
            case Action():
                value = self._pipe(node.pipe, dot)
                if not node.pipe.variables:
                    self._print(value)
            case If() | With():
                return self._if_or_with(node, dot)
            case Range():
                return self._range(node, dot)
            case Invoke():
                self._invoke(node, dot)
            case Break():
                return _Flow.BREAK
            case Continue():
                return _Flow.CONTINUE
        return _Flow.ON

    def _write(self, text: str) -> None:
        self._meter.text(len(text))
        self.output.append(text)

    def _print(self, value: Value) -> None:
        match value.of:
            case str() as text:
                self._write(text)
            case None:
                self._write("<no value>")
            case _:
                self.output.append(sprint([value.of], self._meter))

    def _if_or_with(self, node: If | With, dot: Value) -> _Flow:
        mark = self._variables.mark()
        value = self._pipe(node.pipe, dot)
        if is_true(value.of):
            flow = self._block(node.body, value if isinstance(node, With) else dot)
        else:
            flow = self._block(node.otherwise, dot)
        self._variables.leave(mark)
        return flow

    def _range(self, node: Range, dot: Value) -> _Flow:
        mark = self._variables.mark()
        items = self._items(node, self._pipe(node.pipe, dot).of)
        flow = _Flow.ON
        empty = True
        inner = self._variables.mark()
        for key, item in items:
            empty = False
            self._meter.step()
            self._set_loop_variables(node.pipe, key, item)
            flow = self._block(node.body, item)
            self._variables.leave(inner)
            if flow is _Flow.BREAK:
                break
        flow = self._block(node.otherwise, dot) if empty else _Flow.ON
        self._variables.leave(mark)
        return flow

    def _items(self, node: Range, value: object) -> Iterable[tuple[Value, Value]]:
        match value:
            case None:
                return ()
            case list() | tuple():
                return ((Value(i), element(value, item)) for i, item in enumerate(value))
            case dict():
                self._meter.step(len(value) // 16)  # for sorting
                return ((Value(key), element(value, value[key])) for key in sorted(value))
            case bytes():
                return ((Value(i), Value(Uint8(byte))) for i, byte in enumerate(value))
            case int() if not isinstance(value, bool):
                if len(node.pipe.variables) > 1:
                    self._fail(f"can't use {value} to iterate over more than one variable")
                return ((NO_VALUE, Value(type(value)(i))) for i in range(value))
        self._fail(f"range can't iterate over {sprint([value], self._meter)}")

    def _set_loop_variables(self, pipe: Pipe, key: Value, item: Value) -> None:
        names = [variable.name for variable in pipe.variables]
        values = (key, item) if len(names) == 2 else (item,)
        for name, value in zip(names, values, strict=False):
            self._variables.assign(name, value)

    def _invoke(self, node: Invoke, dot: Value) -> None:
        self._at = node
        if node.name not in self._template.blocks:
            self._fail(f"template {quote(node.name)} not defined")
        argument = self._pipe(node.pipe, dot) if node.pipe else NO_VALUE
        self.template(node.name, argument)

    # Pipelines

    def _pipe(self, pipe: Pipe, dot: Value) -> Value:
        self._meter.enter()
        self._at = pipe
        value: Value | None = None
        for command in pipe.commands:
            value = Value(self._command(command, dot, value).of)
        assert value is not None
        for variable in pipe.variables:
            if pipe.assigns:
                self._assign(variable.name, value)
            else:
                self._variables.declare(variable.name, value)
        self._meter.leave()
        return value

    def _assign(self, name: str, value: Value) -> None:
        try:
            self._variables.assign(name, value)
        except KeyError:
            self._fail(f"undefined variable: {name}")

    def _command(self, command: Command, dot: Value, last: Value | None) -> Value:
        """The command's value; ``last``, the value of the command before, is its last argument."""
        self._meter.step()
        first = command.args[0]
        has_arguments = len(command.args) > 1 or last is not None
        match first:
            case FunctionName():
                self._at = first
                return self._call(first.name, command, command.args[1:], dot, last)
            case Field() | Chain():
                return self._chain(first, dot, has_arguments)
            case Variable() if first.names:
                return self._chain(first, dot, has_arguments)
        if not isinstance(first, Pipe):
            self._at = first
        if has_arguments:
            self._fail(f"can't give argument to non-function {_source(first)}")
        if isinstance(first, Nil):
            self._fail("nil is not a command")
        return self._operand(first, dot)

    def _operand(self, operand: Operand, dot: Value) -> Value:
        """The value of an operand that is no function with arguments of its own."""
        self._at = operand
        match operand:
            case Dot():
                return dot
            case Bool() | String():
                return Value(operand.value)
            case Number():
                if isinstance(operand.value, Oversized):
                    self._fail(f"{operand} overflows int")
                return Value(operand.value)
            case Variable() if not operand.names:
                return self._variable(operand.name)
            case Field() | Variable() | Chain():
                return self._chain(operand, dot, has_arguments=False)
            case FunctionName():
                return self._call(operand.name, operand, (), dot, None)
            case Pipe():
                return self._pipe(operand, dot)
            case Nil():
                return NO_VALUE

    def _variable(self, name: str) -> Value:
        try:
            return self._variables.value(name)
        except KeyError:
            self._fail(f"undefined variable: {name}")

    # Fields

    def _chain(self, node: Field | Variable | Chain, dot: Value, has_arguments: bool) -> Value:
        self._at = node
        match node:
            case Field():
                value = dot
            case Variable():
                value = self._variable(node.name)
            case Chain():
                value = self._operand(node.term, dot)
        for name in node.names[:-1]:
            value = self._field(value, name, has_arguments=False)
        return self._field(value, node.names[-1], has_arguments)

    def _field(self, receiver: Value, name: str, has_arguments: bool) -> Value:
        of = receiver.of
        static_type = ANY if receiver.boxed else type_name(of)
        if of is None:
            if not receiver.boxed:
                return NO_VALUE
            self._fail(f"nil pointer evaluating {static_type}.{name}")
        if isinstance(of, GoStruct) and name in of.fields:
            if has_arguments:
                self._fail(f"{name} has arguments but cannot be invoked as function")
            return element(of, of.fields[name])
        if isinstance(of, dict):
            if has_arguments:
                self._fail(f"{name} is not a method but has arguments")
            return element(of, of.get(name))
        self._fail(f"can't evaluate field {name} in type {static_type}")

    # Calls

    def _call(
        self,
        name: str,
        node: Command | FunctionName,
        args: tuple[Operand, ...],
        dot: Value,
        last: Value | None,
    ) -> Value:
        function = FUNCTIONS[name]
        self._check_arity(name, function, len(args), last is not None)
        if name in ("and", "or"):
            return self._and_or(args, dot, last, stop_at=name == "or")
        values = [
            self._argument(operand, dot, function.takes_format and index == 0)
            for index, operand in enumerate(args)
        ]
        if last is not None:
            values.append(last)
            if function.takes_format and not args:
                self._check_string(last)
        try:
            return function.run(values, self._meter)
        except CallError as error:
            self._at = node
            self._fail(f"error calling {name}: {error}")

    def _check_arity(self, name: str, function: Function, given: int, piped: bool) -> None:
        count = given + piped
        if function.variadic:
            if count < function.fixed:
                self._fail(
                    f"wrong number of args for {name}: want at least {function.fixed} got {given}"
                )
        elif count != function.fixed:
            self._fail(f"wrong number of args for {name}: want {function.fixed} got {count}")

    def _and_or(
        self, args: tuple[Operand, ...], dot: Value, last: Value | None, stop_at: bool
    ) -> Value:
        value = NO_VALUE
        for operand in args:
            value = self._argument(operand, dot, is_format=False)
            if is_true(value.of) is stop_at:
                return value
        return value if last is None else last

    def _argument(self, operand: Operand, dot: Value, is_format: bool) -> Value:
        if is_format and isinstance(operand, Nil):
            self._at = operand
            self._fail("cannot assign nil to string")
        if is_format and isinstance(operand, Bool | Number):
            self._at = operand
            self._fail(f"expected string; found {operand}")
        value = self._operand(operand, dot)
        if is_format:
            self._check_string(value)
        return value

    def _check_string(self, value: Value) -> None:
        if isinstance(value.of, str):
            return
        if value == NO_VALUE:
            self._fail("invalid value; expected string")
        got = ANY if value.of is None else type_name(value.of)
        self._fail(f"wrong type for value; expected string; got {got}")


def _source(operand: Operand) -> str:
    return str(operand)
