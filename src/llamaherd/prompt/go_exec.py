"""Runs a parsed Go template over its data (``text/template``, option ``missingkey=zero``).

Errors carry Go's words, place and context. The work is bounded: see ``go_limits``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum, auto

from llamaherd.errors import TemplateError
from llamaherd.prompt.go_ast import (
    Action,
    Block,
    Break,
    Continue,
    If,
    Invoke,
    Node,
    Pipe,
    Range,
    Template,
    Text,
    With,
)
from llamaherd.prompt.go_eval import Evaluator, Variables
from llamaherd.prompt.go_limits import MAX_DEPTH, Meter
from llamaherd.prompt.go_print import sprint
from llamaherd.prompt.go_text import clean, quote
from llamaherd.prompt.go_values import NO_VALUE, Uint8, Value, element, is_true


def execute(template: Template, data: Mapping[str, object]) -> str:
    """What the template prints for the data; raises TemplateError."""
    run = _Execution(template, Meter())
    try:
        run.template(template.name, Value(dict(data)))
    except RecursionError:  # the caller had little of the stack left
        raise TemplateError(f"template: {template.name}: nested too deeply") from None
    return clean("".join(run.output))


class _Flow(Enum):
    """How a block ended."""

    ON = auto()
    BREAK = auto()
    CONTINUE = auto()


class _Execution:
    """One run of a template and what it has printed so far."""

    def __init__(self, template: Template, meter: Meter) -> None:
        self.output: list[str] = []
        self._template = template
        self._meter = meter
        self._evaluator = Evaluator(template, meter)

    def template(self, name: str, dot: Value) -> None:
        """Run the template of a name; it sees no variables but its own."""
        evaluator = self._evaluator
        outer = evaluator.name, evaluator.variables
        evaluator.name, evaluator.variables = name, Variables(dot)
        self._block(self._template.blocks[name], dot)
        evaluator.name, evaluator.variables = outer

    def _block(self, block: Block, dot: Value) -> _Flow:
        self._meter.enter()
        flow = _Flow.ON
        for node in block:
            flow = self._node(node, dot)
            if flow is not _Flow.ON:
                break
        self._meter.leave()
        return flow

    def _node(self, node: Node, dot: Value) -> _Flow:
        self._meter.step()
        match node:
            case Text():
                self._write(node.text)
            case Action():
                value = self._evaluator.pipe(node.pipe, dot)
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
        mark = self._evaluator.variables.mark()
        value = self._evaluator.pipe(node.pipe, dot)
        if is_true(value.of):
            flow = self._block(node.body, value if isinstance(node, With) else dot)
        else:
            flow = self._block(node.otherwise, dot)
        self._evaluator.variables.leave(mark)
        return flow

    def _range(self, node: Range, dot: Value) -> _Flow:
        mark = self._evaluator.variables.mark()
        items = self._items(node, self._evaluator.pipe(node.pipe, dot).of)
        empty = True
        inner = self._evaluator.variables.mark()
        for key, item in items:
            empty = False
            self._meter.step()
            self._set_loop_variables(node.pipe, key, item)
            flow = self._block(node.body, item)
            self._evaluator.variables.leave(inner)
            if flow is _Flow.BREAK:
                break
        flow = self._block(node.otherwise, dot) if empty else _Flow.ON
        self._evaluator.variables.leave(mark)
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
                    raise self._evaluator.error(
                        f"can't use {value} to iterate over more than one variable"
                    )
                return ((NO_VALUE, Value(type(value)(i))) for i in range(value))
            case _:
                raise self._evaluator.error(
                    f"range can't iterate over {sprint([value], self._meter)}"
                )

    def _set_loop_variables(self, pipe: Pipe, key: Value, item: Value) -> None:
        names = [variable.name for variable in pipe.variables]
        values = (key, item) if len(names) == 2 else (item,)
        for name, value in zip(names, values, strict=False):
            self._evaluator.variables.assign(name, value)

    def _invoke(self, node: Invoke, dot: Value) -> None:
        self._evaluator.at = node
        if node.name not in self._template.blocks:
            raise self._evaluator.error(f"template {quote(node.name)} not defined")
        if self._meter.is_deepest:
            raise self._evaluator.error(f"exceeded maximum template depth ({MAX_DEPTH})")
        argument = self._evaluator.pipe(node.pipe, dot) if node.pipe else NO_VALUE
        self.template(node.name, argument)
