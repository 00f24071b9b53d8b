"""A Jinja environment for templates that come from strangers.

Jinja's own sandbox keeps a template away from Python's internals, but not from eternal loops or
terabyte strings. Here all work is counted against an ``allowance``:

- the compiled template counts each iteration and each macro call, for which counting calls are
  put into its syntax tree;
- operators, filters and string methods whose results can be large are priced before they run;
- all that is printed, and every list that the template makes, is measured with all its members.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, Final

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import make_attrgetter
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from llamaherd.prompt.jinja_prices import (
    FILTERS,
    OPERATORS,
    SPLITTING,
    as_printed,
    formatted,
    replaced,
    size,
    spend,
    step,
)

#: Filters and methods that chat templates don't need and whose results are hard to price.
_REFUSED_FILTERS: Final = (
    *("batch", "center", "filesizeformat", "pprint", "random"),
    *("slice", "sum", "urlize", "wordwrap", "xmlattr"),
)
_REFUSED_METHODS: Final = frozenset(
    {"center", "encode", "expandtabs", "ljust", "maketrans", "rjust", "translate", "zfill"}
)

#: What a template may do to lists, all of which are its own. Kimi's keeps the ids of calls in one.
_LIST_METHODS: Final = frozenset({"append", "pop"})


def _priced(filter_: Callable[..., Any], price: Callable[..., int] | None) -> Callable[..., Any]:
    """The filter, paid for: before it runs if it has a price, else for what it returns."""
    leading = 0 if getattr(filter_, "jinja_pass_arg", None) is None else 1

    @functools.wraps(filter_)
    def call(*arguments: Any, **named: Any) -> Any:
        step()
        if price is not None:
            spend(price(*arguments[leading:], **named))
        result = filter_(*arguments, **named)
        if price is None and isinstance(result, (str, list)):
            spend(size(result))
        return result

    return call


class _GenerationTag(Extension):
    """``{% generation %}…{% endgeneration %}`` marks replies for training; here it is nothing."""

    tags = {"generation"}  # noqa: RUF012  (the base class says how it is declared)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Counting(NodeTransformer):
    """Counts every loop and macro, prices every ``~``, measures every list, tuple and dict.

    Lists of lists that share their members would else grow beyond measure in a few steps, and then
    just comparing two of them would never end.
    """

    def __init__(self, environment: BoundedEnvironment) -> None:
        self._environment = environment

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802  (named by the base class)
        return self._count(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        return self._count(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802
        return self._count(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._call("concatenated", node.nodes, node.lineno)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        return self._measure(node, node.items)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        return self._measure(node, node.items) if node.ctx == "load" else node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        return self._measure(node, [pair.value for pair in node.items])

    def _measure(self, node: nodes.Expr, members: Iterable[nodes.Expr]) -> nodes.Node:
        self.generic_visit(node)
        if all(isinstance(member, nodes.Const) for member in members):
            return node
        return self._call("measured", [node], node.lineno)

    def _count(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        call = self._call("counted", [nodes.Const(text)], node.lineno)
        node.body.insert(0, nodes.ExprStmt(call).set_lineno(node.lineno))
        return node

    def _call(self, name: str, arguments: Iterable[nodes.Expr], line: int) -> nodes.Call:
        function = nodes.EnvironmentAttribute(name)
        call = nodes.Call(function, list(arguments), [], None, None)
        call.set_lineno(line)
        call.set_environment(self._environment)
        return call


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox with Hugging Face's settings for chat templates, and with bounds."""

    intercepted_binops = frozenset(OPERATORS)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_GenerationTag, loopcontrols],
            finalize=self._printed,
            cache_size=0,
        )
        del self.globals["lipsum"]
        self.globals["dict"] = lambda *args, **members: self.measured(dict(*args, **members))
        self.filters = {
            name: _priced(filter_, FILTERS.get(name))
            for name, filter_ in self.filters.items()
            if name not in _REFUSED_FILTERS
        }
        self.filters["join"] = self._join

    def add_filter(self, name: str, filter_: Callable[..., Any]) -> None:
        """Add a filter whose result is about as large as its first argument prints."""
        self.filters[name] = _priced(filter_, as_printed)

    def counted_tree(self, text: str) -> nodes.Template:
        """The syntax tree of a template with the counting calls in it, ready to compile."""
        tree = self.parse(text)
        _Counting(self).visit(tree)
        return tree

    def counted(self, characters: int) -> None:
        """One iteration or macro call, by being called; it prints this much fixed text."""
        spend(characters)

    def concatenated(self, *parts: Any) -> str:
        """The operator ``~``."""
        spend(sum(map(size, parts)))
        return "".join(map(str, parts))

    def measured(self, value: Any) -> Any:
        """The value, if it is of a size that could be printed."""
        size(value)
        return value

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, list) and attr in _LIST_METHODS:
            return True
        refused = isinstance(obj, (str, bytes)) and attr in _REFUSED_METHODS
        return not refused and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        method = super().wrap_str_format(value)
        if method is None:
            return None

        @functools.wraps(method)
        def priced(*args: Any, **kwargs: Any) -> str:
            spend(formatted(value.__self__, [*args, *kwargs.values()]))
            return method(*args, **kwargs)

        return priced

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        step()
        spend(OPERATORS[operator](left, right))
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        step()
        text, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(text, str) and name == "replace":
            spend(replaced(text, *args))
        elif isinstance(text, str) and name == "join":
            (items,) = args
            return self._join(items, text)
        elif isinstance(text, str) and name in SPLITTING:
            spend(len(text))
        elif isinstance(text, list) and name == "append":
            self._check_appended(*args)
        return super().call(context, obj, *args, **kwargs)

    @staticmethod
    def _check_appended(value: Any) -> None:
        """Lists of lists could share their members, and even have themselves among them."""
        if not isinstance(value, (str, int, float)):
            raise SecurityError("only texts and numbers can be appended to a list")
        spend(size(value))

    def _join(self, items: Iterable[Any], d: Any = "", attribute: str | None = None) -> str:
        """Jinja's filter ``join``, measured before it joins; its parameters are named there."""
        if attribute is not None:
            items = map(make_attrgetter(self, attribute), items)
        parts = list(items)
        separator = str(d)
        spend(sum(map(size, parts)) + len(parts) * len(separator))
        return separator.join(map(str, parts))

    def _printed(self, value: Any) -> Any:
        spend(size(value))
        return value
