"""Parser of pipelines: declarations, commands and their operands."""

from __future__ import annotations

from collections import Counter

from llamaherd.prompt import go_literals
from llamaherd.prompt.go_ast import (
    Bool,
    Chain,
    Command,
    Dot,
    Field,
    Function,
    Nil,
    Number,
    Operand,
    Pipe,
    String,
    Variable,
)
from llamaherd.prompt.go_cursor import Cursor
from llamaherd.prompt.go_funcs import FUNCTIONS
from llamaherd.prompt.go_lex import Kind, Token
from llamaherd.prompt.go_text import quote

_OPERAND_STARTS = frozenset(
    {
        Kind.BOOL,
        Kind.CHAR_CONSTANT,
        Kind.COMPLEX,
        Kind.DOT,
        Kind.FIELD,
        Kind.IDENTIFIER,
        Kind.LEFT_PAREN,
        Kind.NIL,
        Kind.NUMBER,
        Kind.RAW_STRING,
        Kind.STRING,
        Kind.VARIABLE,
    }
)


class PipelineParser:
    """Parses pipelines at a cursor and knows which variables are declared there."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._variables = ["$"]  # in the order of their declaration, for leaving a scope
        self._declared = Counter(self._variables)

    def open_scope(self) -> int:
        """What ``close_scope`` needs to forget the variables declared from here on."""
        return len(self._variables)

    def close_scope(self, outer: int) -> None:
        self._declared.subtract(self._variables[outer:])
        del self._variables[outer:]

    def pipeline(self, context: str, end: Kind) -> Pipe:
        pos = self._cursor.peek_nonspace().pos
        variables, assigns = self._declarations(context)
        commands: list[Command] = []
        while (token := self._cursor.next_nonspace()).kind is not end:
            if token.kind not in _OPERAND_STARTS:
                self._cursor.unexpected(token, context)
            self._cursor.back()
            commands.append(self._command())
        if not commands:
            self._cursor.fail(f"missing value for {context}")
        for stage, command in enumerate(commands[1:], start=2):
            if isinstance(command.args[0], Bool | Dot | Nil | Number | String):
                self._cursor.fail(f"non executable command in pipeline stage {stage}")
        return Pipe(pos, tuple(commands), variables, assigns)

    def _declarations(self, context: str) -> tuple[tuple[Variable, ...], bool]:
        """``$x :=``, ``$x =`` or, in a range, ``$i, $x :=``; and whether they assign."""
        found: list[Variable] = []
        while (variable := self._cursor.peek_nonspace()).kind is Kind.VARIABLE:
            self._cursor.next()
            steps = 2
            after = self._cursor.next()
            if after.kind is Kind.SPACE:
                steps = 3
                after = self._cursor.next()
            is_comma = after.kind is Kind.CHAR and after.text == ","
            if not is_comma and after.kind not in (Kind.ASSIGN, Kind.DECLARE):
                self._cursor.back(steps)
                break
            found.append(Variable(variable.pos, variable.text))
            self._variables.append(variable.text)
            self._declared[variable.text] += 1
            if not is_comma:
                return tuple(found), after.kind is Kind.ASSIGN
            if context != "range" or len(found) == 2:
                self._cursor.fail(f"too many declarations in {context}")
            if self._cursor.peek_nonspace().kind not in (
                Kind.VARIABLE,
                Kind.RIGHT_DELIM,
                Kind.RIGHT_PAREN,
            ):
                self._cursor.fail("range can only initialize variables")
        return tuple(found), False

    def _command(self) -> Command:
        pos = self._cursor.peek_nonspace().pos
        args: list[Operand] = []
        while True:
            self._cursor.peek_nonspace()
            operand = self._operand()
            if operand is not None:
                args.append(operand)
            token = self._cursor.next()
            if token.kind is Kind.SPACE:
                continue
            if token.kind in (Kind.RIGHT_DELIM, Kind.RIGHT_PAREN):
                self._cursor.back()
            elif token.kind is not Kind.PIPE:
                self._cursor.unexpected(token, "operand")
            break
        if not args:
            self._cursor.fail("empty command")
        return Command(pos, tuple(args))

    def _operand(self) -> Operand | None:
        term = self._term()
        first = self._cursor.peek()
        if term is None or first.kind is not Kind.FIELD:
            return term
        fields: list[str] = []
        while self._cursor.peek().kind is Kind.FIELD:
            fields.append(self._cursor.next().text[1:])
        names = tuple(fields)
        match term:
            case Field():
                return Field(first.pos, term.names + names)
            case Variable():
                return Variable(first.pos, term.name, term.names + names)
            case Bool() | String() | Number() | Nil() | Dot():
                self._cursor.fail(f"unexpected . after term {quote(str(term))}")
        return Chain(first.pos, term, names)

    def _term(self) -> Operand | None:
        token = self._cursor.next_nonspace()
        match token.kind:
            case Kind.IDENTIFIER:
                if token.text not in FUNCTIONS:
                    self._cursor.fail(f"function {quote(token.text)} not defined")
                return Function(token.pos, token.text)
            case Kind.DOT:
                return Dot(token.pos)
            case Kind.NIL:
                return Nil(token.pos)
            case Kind.VARIABLE:
                if not self._declared[token.text]:
                    self._cursor.fail(f"undefined variable {quote(token.text)}")
                return Variable(token.pos, token.text)
            case Kind.FIELD:
                return Field(token.pos, (token.text[1:],))
            case Kind.BOOL:
                return Bool(token.pos, token.text == "true")
            case Kind.NUMBER | Kind.COMPLEX | Kind.CHAR_CONSTANT:
                return Number(token.pos, token.text, self._number(token))
            case Kind.STRING | Kind.RAW_STRING:
                return String(token.pos, token.text, self.unquote(token))
            case Kind.LEFT_PAREN:
                self._cursor.enter()
                pipe = self.pipeline("parenthesized pipeline", Kind.RIGHT_PAREN)
                self._cursor.leave()
                return pipe
        self._cursor.back()
        return None

    def _number(self, token: Token) -> int | float | complex | go_literals.Oversized:
        try:
            if token.kind is Kind.CHAR_CONSTANT:
                return go_literals.character(token.text)
            if token.kind is Kind.COMPLEX:
                return go_literals.complex_number(token.text)
            return go_literals.number(token.text)
        except go_literals.BadLiteral as error:
            self._cursor.fail(str(error))

    def unquote(self, token: Token) -> str:
        try:
            return go_literals.unquote(token.text)
        except go_literals.BadLiteral as error:
            self._cursor.fail(str(error))
