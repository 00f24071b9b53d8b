"""Parser of the Go template language (``text/template/parse``).

Errors carry Go's words and line. A template may come from a stranger: nesting is bounded, so that
neither parsing nor running one can exhaust the stack.
"""

from __future__ import annotations

from typing import TypeAlias

from llamaherd.errors import TemplateError
from llamaherd.prompt.go_ast import (
    Action,
    Block,
    Break,
    Continue,
    If,
    Invoke,
    Node,
    Range,
    Template,
    Text,
    With,
    cut_after_field,
    identifiers,
)
from llamaherd.prompt.go_cursor import Cursor
from llamaherd.prompt.go_lex import Kind, Token, tokenize
from llamaherd.prompt.go_pipeline import PipelineParser
from llamaherd.prompt.go_text import quote

__all__ = ["Template", "cut_after_field", "identifiers", "parse"]

#: In characters. Chat templates have some thousands.
MAX_LENGTH = 1024 * 1024

_Blocks: TypeAlias = dict[str, Block]
_BRANCHES: dict[Kind, type[If] | type[Range] | type[With]] = {
    Kind.IF: If,
    Kind.RANGE: Range,
    Kind.WITH: With,
}


def parse(text: str, name: str = "") -> Template:
    """Parse a template; ``name`` is what errors call it. Raises TemplateError."""
    if len(text) > MAX_LENGTH:
        raise TemplateError(f"template: {name}: longer than {MAX_LENGTH} characters")
    blocks: _Blocks = {}
    try:
        _Parser(Cursor(tokenize(text), name), blocks).parse_template(name)
    except RecursionError:  # the caller had little of the stack left
        raise TemplateError(f"template: {name}: nested too deeply") from None
    return Template(name, text, blocks)


class _End:
    """``{{end}}`` or ``{{else}}``: closes a block, never part of a tree."""

    def __init__(self, source: str) -> None:
        self.source = source


_END = _End("{{end}}")
_ELSE = _End("{{else}}")


class _Parser:
    """Parses one template; a definition inside it gets a parser of its own on the same tokens."""

    def __init__(self, cursor: Cursor, blocks: _Blocks) -> None:
        self._cursor = cursor
        self._pipelines = PipelineParser(cursor)
        self._blocks = blocks
        self._range_depth = 0

    def parse_template(self, name: str) -> None:
        nodes: list[Node] = []
        while (token := self._cursor.peek()).kind is not Kind.EOF:
            if token.kind is Kind.LEFT_DELIM and self._is_definition():
                _Parser(self._cursor.for_definition(), self._blocks)._definition()
                continue
            node = self._text_or_action()
            if isinstance(node, _End):
                self._cursor.fail(f"unexpected {node.source}")
            nodes.append(node)
        self._add(name, tuple(nodes))

    def _is_definition(self) -> bool:
        """Step over ``{{ define`` if it is next."""
        self._cursor.next()
        token = self._cursor.next()
        count = 2
        if token.kind is Kind.SPACE:
            token = self._cursor.next()
            count = 3
        if token.kind is Kind.DEFINE:
            return True
        self._cursor.back(count)
        return False

    def _definition(self) -> None:
        context = "define clause"
        name = self._template_name(self._cursor.next_nonspace(), context)
        self._cursor.expect(Kind.RIGHT_DELIM, context)
        block, end = self._block()
        if end is not _END:
            self._cursor.fail(f"unexpected {end.source} in {context}")
        self._add(name, block)

    def _add(self, name: str, block: Block) -> None:
        if name not in self._blocks or _is_empty(self._blocks[name]):
            self._blocks[name] = block
        elif not _is_empty(block):
            self._cursor.fail(f"template: multiple definition of template {quote(name)}")

    def _block(self) -> tuple[Block, _End]:
        self._cursor.enter()
        nodes: list[Node] = []
        while True:
            if self._cursor.peek_nonspace().kind is Kind.EOF:
                self._cursor.fail("unexpected EOF")
            node = self._text_or_action()
            if isinstance(node, _End):
                self._cursor.leave()
                return tuple(nodes), node
            nodes.append(node)

    def _text_or_action(self) -> Node | _End:
        token = self._cursor.next_nonspace()
        if token.kind is Kind.TEXT:
            return Text(token.pos, token.text)
        if token.kind is not Kind.LEFT_DELIM:
            self._cursor.unexpected(token, "input")
        self._cursor.action_line = token.line
        node = self._action()
        self._cursor.action_line = 0
        return node

    def _action(self) -> Node | _End:
        token = self._cursor.next_nonspace()
        match token.kind:
            case Kind.IF | Kind.RANGE | Kind.WITH:
                return self._branch(token.kind)
            case Kind.ELSE:
                return self._else()
            case Kind.END:
                self._cursor.expect(Kind.RIGHT_DELIM, "end")
                return _END
            case Kind.BREAK | Kind.CONTINUE:
                return self._loop_exit(token)
            case Kind.TEMPLATE:
                return self._invocation()
            case Kind.BLOCK:
                return self._block_definition()
        self._cursor.back()
        return Action(token.pos, self._pipelines.pipeline("command", Kind.RIGHT_DELIM))

    def _loop_exit(self, token: Token) -> Node:
        word = f"{{{{{token.text}}}}}"
        self._cursor.expect(Kind.RIGHT_DELIM, word)
        if not self._range_depth:
            self._cursor.fail(f"{word} outside {{{{range}}}}")
        return Break(token.pos) if token.kind is Kind.BREAK else Continue(token.pos)

    def _else(self) -> _End:
        # "{{else if" and "{{else with" stand for "{{else}}{{if": _branch takes the word up.
        if self._cursor.peek_nonspace().kind not in (Kind.IF, Kind.WITH):
            self._cursor.expect(Kind.RIGHT_DELIM, "else")
        return _ELSE

    def _branch(self, kind: Kind) -> Node:
        outer = self._pipelines.open_scope()
        context = kind.name.lower()
        pipe = self._pipelines.pipeline(context, Kind.RIGHT_DELIM)
        self._range_depth += kind is Kind.RANGE
        body, end = self._block()
        self._range_depth -= kind is Kind.RANGE
        otherwise: Block = ()
        if end is _ELSE:
            otherwise = self._otherwise(kind)
        self._pipelines.close_scope(outer)
        return _BRANCHES[kind](pipe.pos, pipe, body, otherwise)

    def _otherwise(self, kind: Kind) -> Block:
        if kind is not Kind.RANGE and self._cursor.peek().kind is kind:
            self._cursor.next()
            self._cursor.enter()
            node = self._branch(kind)
            self._cursor.leave()
            return (node,)
        block, end = self._block()
        if end is not _END:
            self._cursor.fail(f"expected end; found {end.source}")
        return block

    def _invocation(self) -> Node:
        context = "template clause"
        token = self._cursor.next_nonspace()
        name = self._template_name(token, context)
        pipe = None
        if self._cursor.next_nonspace().kind is not Kind.RIGHT_DELIM:
            self._cursor.back()
            pipe = self._pipelines.pipeline(context, Kind.RIGHT_DELIM)
        return Invoke(token.pos, name, pipe)

    def _block_definition(self) -> Node:
        """``{{block "name" pipeline}}…{{end}}``: a definition and its invocation in one."""
        context = "block clause"
        token = self._cursor.next_nonspace()
        name = self._template_name(token, context)
        pipe = self._pipelines.pipeline(context, Kind.RIGHT_DELIM)
        inner = _Parser(self._cursor.for_definition(), self._blocks)
        block, end = inner._block()
        if end is not _END:
            self._cursor.fail(f"unexpected {end.source} in {context}")
        inner._add(name, block)
        return Invoke(token.pos, name, pipe)

    def _template_name(self, token: Token, context: str) -> str:
        if token.kind not in (Kind.STRING, Kind.RAW_STRING):
            self._cursor.unexpected(token, context)
        return self._pipelines.unquote(token)


def _is_empty(block: Block) -> bool:
    return all(isinstance(node, Text) and not node.text.strip() for node in block)
