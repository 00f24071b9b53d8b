"""Evaluates the pipelines of a Go template: commands, operands, fields and calls."""

from __future__ import annotations

from llamaherd.errors import TemplateError
from llamaherd.prompt.go_ast import (
    Bool,
    Chain,
    Command,
    Dot,
    Field,
    Invoke,
    Nil,
    Number,
    Operand,
    Pipe,
    String,
    Template,
    Variable,
)
from llamaherd.prompt.go_ast import Function as FunctionName
from llamaherd.prompt.go_funcs import FUNCTIONS, CallError, Function
from llamaherd.prompt.go_limits import Meter
from llamaherd.prompt.go_literals import Oversized
from llamaherd.prompt.go_text import quote
from llamaherd.prompt.go_values import (
    ANY,
    NO_VALUE,
    GoStruct,
    Value,
    element,
    is_true,
    text_of,
    type_name,
)


class Variables:
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


class Evaluator:
    """Evaluates pipelines of one template at a time.

    ``at`` is the node at work: errors quote it and its place.
    """

    def __init__(self, template: Template, meter: Meter) -> None:
        self.name = template.name  # of the template that runs now
        self.variables = Variables(NO_VALUE)
        self.at: Invoke | Command | Operand | None = None
        self._template = template
        self._meter = meter

    def error(self, message: str) -> TemplateError:
        """An error at the node at work."""
        assert self.at is not None
        place = self._template.location(self.at.pos)
        return TemplateError(
            f"template: {place}: executing {quote(self.name)} at <{self.at}>: {message}"
        )

    def pipe(self, pipe: Pipe, dot: Value) -> Value:
        self._meter.enter()
        self.at = pipe
        value: Value | None = None
        for command in pipe.commands:
            value = Value(self._command(command, dot, value).of)
        assert value is not None
        for variable in pipe.variables:
            if pipe.assigns:
                self._assign(variable.name, value)
            else:
                self.variables.declare(variable.name, value)
        self._meter.leave()
        return value

    def _assign(self, name: str, value: Value) -> None:
        try:
            self.variables.assign(name, value)
        except KeyError:
            raise self.error(f"undefined variable: {name}") from None

    def _command(self, command: Command, dot: Value, last: Value | None) -> Value:
        """The command's value; ``last``, the value of the command before, is its last argument."""
        self._meter.step()
        first = command.args[0]
        arguments = len(command.args) - 1 + (last is not None)
        match first:
            case FunctionName():
                self.at = first
                return self._call(first.name, command, command.args[1:], dot, last)
            case Field() | Chain():
                return self._chain(first, dot, arguments)
            case Variable() if first.names:
                return self._chain(first, dot, arguments)
        if not isinstance(first, Pipe):
            self.at = first
        if isinstance(first, Variable):
            self._variable(first.name)  # an undefined one is the first thing to complain about
        if arguments:
            raise self.error(f"can't give argument to non-function {first}")
        if isinstance(first, Nil):
            raise self.error("nil is not a command")
        return self._operand(first, dot)

    def _operand(self, operand: Operand, dot: Value) -> Value:
        """The value of an operand that is no function with arguments of its own."""
        self.at = operand
        match operand:
            case Dot():
                return dot
            case Bool() | String():
                return Value(operand.value)
            case Number():
                if isinstance(operand.value, Oversized):
                    raise self.error(f"{operand} overflows int")
                return Value(operand.value)
            case Variable() if not operand.names:
                return self._variable(operand.name)
            case Field() | Variable() | Chain():
                return self._chain(operand, dot, arguments=0)
            case FunctionName():
                return self._call(operand.name, operand, (), dot, None)
            case Pipe():
                return self.pipe(operand, dot)
            case Nil():
                return NO_VALUE

    def _variable(self, name: str) -> Value:
        try:
            return self.variables.value(name)
        except KeyError:
            raise self.error(f"undefined variable: {name}") from None

    # Fields

    def _chain(self, node: Field | Variable | Chain, dot: Value, arguments: int) -> Value:
        self.at = node
        match node:
            case Field():
                value = dot
            case Variable():
                value = self._variable(node.name)
            case Chain():
                value = self._operand(node.term, dot)
        for name in node.names[:-1]:
            value = self._field(value, name, arguments=0)
        return self._field(value, node.names[-1], arguments)

    def _field(self, receiver: Value, name: str, arguments: int) -> Value:
        text = text_of(receiver.of)
        if name == "String" and text is not None:
            if arguments:
                raise self.error(f"wrong number of args for String: want 0 got {arguments}")
            return Value(text)
        match receiver.of:
            case None if not receiver.boxed:
                return NO_VALUE
            case None:
                raise self.error(f"nil pointer evaluating {ANY}.{name}")
            case GoStruct(fields=fields) as struct if name in fields:
                if arguments:
                    raise self.error(f"{name} has arguments but cannot be invoked as function")
                return element(struct, fields[name])
            case dict() as mapping:
                if arguments:
                    raise self.error(f"{name} is not a method but has arguments")
                return element(mapping, mapping.get(name))
            case _:
                static_type = ANY if receiver.boxed else type_name(receiver.of)
                raise self.error(f"can't evaluate field {name} in type {static_type}")

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
        values: list[Value] = []
        for operand in args:
            values.append(self._argument(operand, dot, function.takes_format and not values))
            if is_true(values[-1].of) is function.stops_at:
                break
        else:
            if last is not None:
                values.append(
                    self._checked_string(last) if function.takes_format and not args else last
                )
        if name == "call":
            values.insert(0, Value(str(args[0]) if args else _reflected(values[0].of)))
        try:
            return function.run(values, self._meter)
        except CallError as error:
            self.at = node
            raise self.error(f"error calling {name}: {error}") from None

    def _check_arity(self, name: str, function: Function, given: int, piped: bool) -> None:
        count = given + piped
        if function.variadic:
            if count < function.fixed:
                raise self.error(
                    f"wrong number of args for {name}: want at least {function.fixed} got {given}"
                )
        elif count != function.fixed:
            raise self.error(f"wrong number of args for {name}: want {function.fixed} got {count}")

    def _argument(self, operand: Operand, dot: Value, is_format: bool) -> Value:
        if not is_format:
            return self._operand(operand, dot)
        self.at = operand
        if isinstance(operand, Nil):
            raise self.error("cannot assign nil to string")
        if isinstance(operand, Bool | Number):
            raise self.error(f"expected string; found {operand}")
        return self._checked_string(self._operand(operand, dot))

    def _checked_string(self, value: Value) -> Value:
        if isinstance(value.of, str):
            return value
        if value.of is None and not value.boxed:
            raise self.error("invalid value; expected string")
        got = ANY if value.of is None else type_name(value.of)
        raise self.error(f"wrong type for value; expected string; got {got}")


def _reflected(value: object) -> str:
    """``reflect.Value.String``, by which Go calls a callee that came through the pipeline."""
    return value if isinstance(value, str) else f"<{type_name(value)} Value>"
