"""The functions that templates call: Go's built-in ones and Ollama's ``json``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from urllib.parse import quote_plus

from llamaherd.prompt import go_json
from llamaherd.prompt.go_limits import Meter
from llamaherd.prompt.go_print import sprint, sprintln
from llamaherd.prompt.go_printf import sprintf
from llamaherd.prompt.go_text import byte_length, from_bytes, is_byte, is_printable, to_bytes
from llamaherd.prompt.go_values import (
    ANY,
    GoList,
    Kind,
    Uint8,
    Value,
    element,
    is_nil,
    is_true,
    kind_of,
    type_name,
)


class CallError(Exception):
    """Why a call failed, in Go's words."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function with its arity: ``fixed`` parameters, then any number if ``variadic``.

    ``takes_format``: the first parameter must be a string. ``stops_at``: arguments are evaluated
    only up to the first whose truth is this.
    """

    run: Callable[[Sequence[Value], Meter], Value]
    fixed: int
    variadic: bool = False
    takes_format: bool = False
    stops_at: bool | None = None


# Printing


def _print(args: Sequence[Value], meter: Meter) -> Value:
    return Value(sprint([arg.of for arg in args], meter))


def _println(args: Sequence[Value], meter: Meter) -> Value:
    return Value(sprintln([arg.of for arg in args], meter))


def _printf(args: Sequence[Value], meter: Meter) -> Value:
    return Value(sprintf(str(args[0].of), [arg.of for arg in args[1:]], meter))


def _json(args: Sequence[Value], meter: Meter) -> Value:
    try:
        return Value(go_json.marshal(args[0].of, meter))
    except go_json.Unsupported:
        return Value("")  # as Ollama's function answers


_HTML = str.maketrans(
    {"\0": "\ufffd", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"}
)


def _escaper(escape: Callable[[str], str]) -> Callable[[Sequence[Value], Meter], Value]:
    """A function that escapes its arguments' text; nil among them reads as in an action."""

    def run(args: Sequence[Value], meter: Meter) -> Value:
        shown = ["<no value>" if arg.of is None else arg.of for arg in args]
        text = escape(sprint(shown, meter))
        meter.text(len(text))
        return Value(text)

    return run


def _escape_html(text: str) -> str:
    return text.translate(_HTML)


def _escape_js(text: str) -> str:
    return "".join(map(_escape_js_character, text))


def _escape_js_character(char: str) -> str:
    if char in "\\'\"":
        return "\\" + char
    if char in "<>&=" or char < " ":
        return f"\\u{ord(char):04X}"
    shown = char.isascii() or is_printable(char) or is_byte(char)
    return char if shown else f"\\u{ord(char):04X}"


def _escape_query(text: str) -> str:
    return quote_plus(to_bytes(text), safe="-_.~")


# Collections


def _len(args: Sequence[Value], meter: Meter) -> Value:
    value = args[0].of
    match kind_of(value):
        case Kind.STRING:
            assert isinstance(value, str)
            meter.step(len(value) // 1024)
            return Value(byte_length(value))
        case Kind.LIST | Kind.MAP | Kind.BYTES:
            assert isinstance(value, list | tuple | dict | bytes)
            return Value(len(value))
        case Kind.NIL if args[0].boxed:
            raise CallError("len of nil pointer")
        case Kind.NIL:
            raise CallError("reflect: call of reflect.Value.Type on zero Value")
    raise CallError(f"len of type {type_name(value)}")


def _index(args: Sequence[Value], meter: Meter) -> Value:
    item, *indexes = args
    if item.of is None:
        raise CallError("index of untyped nil")
    for index in indexes:
        item = _element_at(item.of, index.of, meter)
    return item


def _element_at(item: object, index: object, meter: Meter) -> Value:
    match item:
        case None:
            raise CallError("index of nil pointer")
        case dict():
            if isinstance(index, str):
                return element(item, item.get(index))
            if index is None:
                raise CallError("value is nil; should be of type string")
            raise CallError(f"value has type {type_name(index)}; should be string")
        case list() | tuple():
            at = _position(index, len(item))
            if at == len(item):
                raise CallError("reflect: slice index out of range")
            return element(item, item[at])
        case str() | bytes():
            data = _bytes_of(item, meter)
            at = _position(index, len(data))
            if at == len(data):
                kind = "string" if isinstance(item, str) else "slice"
                raise CallError(f"reflect: {kind} index out of range")
            return Value(Uint8(data[at]))
    raise CallError(f"can't index item of type {type_name(item)}")


def _bytes_of(item: str | bytes, meter: Meter) -> bytes:
    if isinstance(item, bytes):
        return item
    meter.step(len(item) // 1024)
    return to_bytes(item)


def _position(index: object, most: int) -> int:
    match kind_of(index):
        case Kind.INT | Kind.UINT:
            assert isinstance(index, int)
            if not 0 <= index <= most:
                raise CallError(f"index out of range: {index}")
            return index
        case Kind.NIL:
            raise CallError("cannot index slice/array with nil")
    raise CallError(f"cannot index slice/array with type {type_name(index)}")


def _slice(args: Sequence[Value], meter: Meter) -> Value:
    item = args[0].of
    if item is None:
        raise CallError("slice of untyped nil")
    if len(args) > 4:
        raise CallError(f"too many slice indexes: {len(args) - 1}")
    match item:
        case str():
            if len(args) == 4:
                raise CallError("cannot 3-index slice a string")
            data = _bytes_of(item, meter)
            start, end = _bounds(args[1:], len(data))
            return Value(from_bytes(data[start:end]))
        case bytes():
            start, end = _bounds(args[1:], len(item))
            return Value(item[start:end])
        case list() | tuple():
            start, end = _bounds(args[1:], len(item))
            meter.step((end - start) // 1024)
            if end - start == len(item):
                return Value(item)
            # The text of a whole list is not that of its part.
            return Value(GoList(item[start:end], type_name=type_name(item)))
    raise CallError(f"can't slice item of type {type_name(item)}")


def _bounds(indexes: Sequence[Value], length: int) -> tuple[int, int]:
    positions: list[int] = []
    for index in indexes:
        if index.boxed:  # odd, but so it is in Go, unlike in index
            raise CallError(f"cannot index slice/array with type {ANY}")
        positions.append(_position(index.of, length))
    bounds = positions + [0, length][len(positions) :]
    for low, high in pairwise(bounds):
        if low > high:
            raise CallError(f"invalid slice index: {low} > {high}")
    return bounds[0], bounds[1]


def _call(args: Sequence[Value], meter: Meter) -> Value:
    """Fails: no value of ours is a function. The first argument is the source of the callee."""
    source, callee = args[0].of, args[1].of
    if callee is None:
        raise CallError("call of nil")
    raise CallError(f"non-function {source} of type {type_name(callee)}")


# Comparison

_BASIC = frozenset(
    {Kind.BOOL, Kind.INT, Kind.UINT, Kind.FLOAT, Kind.COMPLEX, Kind.STRING},
)
_ORDERED = _BASIC - {Kind.BOOL, Kind.COMPLEX}
_INTEGERS = frozenset({Kind.INT, Kind.UINT})
_SLICES = frozenset({Kind.LIST, Kind.BYTES})


def _not(args: Sequence[Value], meter: Meter) -> Value:
    return Value(not is_true(args[0].of))


def _eq(args: Sequence[Value], meter: Meter) -> Value:
    first, *others = (arg.of for arg in args)
    if not others:
        raise CallError("missing argument for comparison")
    return Value(any(_equal(first, other, meter) for other in others))


def _ne(args: Sequence[Value], meter: Meter) -> Value:
    return Value(not _equal(args[0].of, args[1].of, meter))


def _equal(first: object, second: object, meter: Meter) -> bool:
    kind, other = kind_of(first), kind_of(second)
    if kind in _BASIC or other in _BASIC:
        if kind is other or (kind in _INTEGERS and other in _INTEGERS):
            _charge_comparison(first, meter)
            return first == second
        if first is None or second is None:
            return False
        raise _incompatible(first, second)
    types = type_name(first), type_name(second)
    both_slices = kind in _SLICES and other in _SLICES
    if not (kind is other or both_slices or first is None or second is None):
        shown = sprintf("%s: %v, %s: %v", [first, *types, second], meter)
        raise CallError(f"non-comparable types {shown}")
    if is_nil(first) or is_nil(second):
        return is_nil(first) and is_nil(second)
    if kind is not Kind.STRUCT:
        shown = sprintf("%s: %v", [second, types[1]], meter)
        raise CallError(f"non-comparable type {shown}")
    return first is second  # what templates see of structs is mostly pointers


def _less(first: object, second: object, meter: Meter) -> bool:
    kind, other = kind_of(first), kind_of(second)
    if kind not in _BASIC or other not in _BASIC:
        raise CallError("invalid type for comparison")
    if kind is not other and not (kind in _INTEGERS and other in _INTEGERS):
        raise _incompatible(first, second)
    if kind not in _ORDERED:
        raise CallError("invalid type for comparison")
    _charge_comparison(first, meter)
    if isinstance(first, str) and isinstance(second, str):
        return to_bytes(first) < to_bytes(second)
    assert isinstance(first, int | float)
    assert isinstance(second, int | float)
    return first < second


def _incompatible(first: object, second: object) -> CallError:
    types = f"{type_name(first)} and {type_name(second)}"
    return CallError(f"incompatible types for comparison: {types}")


def _charge_comparison(value: object, meter: Meter) -> None:
    if isinstance(value, str):
        meter.step(len(value) // 1024)


def _lt(args: Sequence[Value], meter: Meter) -> Value:
    return Value(_less(args[0].of, args[1].of, meter))


def _le(args: Sequence[Value], meter: Meter) -> Value:
    first, second = args[0].of, args[1].of
    return Value(_less(first, second, meter) or _equal(first, second, meter))


def _gt(args: Sequence[Value], meter: Meter) -> Value:
    return Value(not _le(args, meter).of)


def _ge(args: Sequence[Value], meter: Meter) -> Value:
    return Value(not _lt(args, meter).of)


def _last(args: Sequence[Value], meter: Meter) -> Value:
    return args[-1]


FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        "and": Function(_last, 1, variadic=True, stops_at=False),
        "call": Function(_call, 1, variadic=True),
        "eq": Function(_eq, 1, variadic=True),
        "ge": Function(_ge, 2),
        "gt": Function(_gt, 2),
        "html": Function(_escaper(_escape_html), 0, variadic=True),
        "index": Function(_index, 1, variadic=True),
        "js": Function(_escaper(_escape_js), 0, variadic=True),
        "json": Function(_json, 1),
        "le": Function(_le, 2),
        "len": Function(_len, 1),
        "lt": Function(_lt, 2),
        "ne": Function(_ne, 2),
        "not": Function(_not, 1),
        "or": Function(_last, 1, variadic=True, stops_at=True),
        "print": Function(_print, 0, variadic=True),
        "printf": Function(_printf, 1, variadic=True, takes_format=True),
        "println": Function(_println, 0, variadic=True),
        "slice": Function(_slice, 1, variadic=True),
        "urlquery": Function(_escaper(_escape_query), 0, variadic=True),
    }
)
