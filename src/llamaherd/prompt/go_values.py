"""What templates see: Python values in the roles of Go's.

====================  =========================================
Python                Go
====================  =========================================
None                  nil
bool, int, float      bool, int, float64
str                   string
bytes                 []byte
list, GoList          a slice (of ``any`` unless GoList says otherwise)
dict, GoMap           a map with string keys
GoStruct              a struct or a pointer to one
====================  =========================================

GoList, GoMap and GoStruct may carry ``text``, what their ``String()`` method would return: it is
what printing shows. ``json`` never uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from llamaherd.errors import PromptError

ANY = "interface {}"


class Uint8(int):
    """A byte of a string or of ``[]byte``."""


class GoList(list[object]):
    """A slice with a type of its own. ``nil`` tells a nil slice (JSON null) from an empty one."""

    def __init__(
        self,
        items: Iterable[object] = (),
        *,
        type_name: str = f"[]{ANY}",
        text: str | None = None,
        nil: bool = False,
    ) -> None:
        super().__init__(items)
        self.type_name = type_name
        self.text = text
        self.nil = nil


class GoMap(dict[str, object]):
    """A map with a type of its own. ``nil`` tells a nil map (JSON null) from an empty one."""

    def __init__(
        self,
        items: Mapping[str, object] | Iterable[tuple[str, object]] = (),
        *,
        type_name: str = f"map[string]{ANY}",
        text: str | None = None,
        nil: bool = False,
    ) -> None:
        super().__init__(items)
        self.type_name = type_name
        self.text = text
        self.nil = nil


@dataclass(frozen=True, slots=True, eq=False)
class GoStruct:
    """A struct: ``fields`` by their Go names, in order.

    ``json`` holds the members of its JSON object in order (nested dicts are sorted, as Go's maps
    are); without it the fields serve under their Go names.
    """

    type_name: str
    fields: Mapping[str, object]
    text: str | None = None
    json: Mapping[str, object] | None = None


class Kind(Enum):
    NIL = auto()
    BOOL = auto()
    INT = auto()
    UINT = auto()
    FLOAT = auto()
    COMPLEX = auto()
    STRING = auto()
    BYTES = auto()
    LIST = auto()
    MAP = auto()
    STRUCT = auto()


#: In this order, because bool and Uint8 are ints.
_KINDS: tuple[tuple[type | tuple[type, ...], Kind], ...] = (
    (str, Kind.STRING),
    (bool, Kind.BOOL),
    (Uint8, Kind.UINT),
    (int, Kind.INT),
    (float, Kind.FLOAT),
    ((list, tuple), Kind.LIST),
    (dict, Kind.MAP),
    (GoStruct, Kind.STRUCT),
    (bytes, Kind.BYTES),
    (complex, Kind.COMPLEX),
)

_TYPE_NAMES = {
    Kind.NIL: "<nil>",
    Kind.BOOL: "bool",
    Kind.INT: "int",
    Kind.UINT: "uint8",
    Kind.FLOAT: "float64",
    Kind.COMPLEX: "complex128",
    Kind.STRING: "string",
    Kind.BYTES: "[]uint8",
    Kind.LIST: f"[]{ANY}",
    Kind.MAP: f"map[string]{ANY}",
}


def kind_of(value: object) -> Kind:
    """The Go kind of a value; TypeError for what is no value of a template."""
    if value is None:
        return Kind.NIL
    for types, kind in _KINDS:
        if isinstance(value, types):
            return kind
    raise foreign(value)


def foreign(value: object) -> TypeError:
    """The error for a value that has no counterpart in Go."""
    return TypeError(f"a template can't use a value of Python type {type(value).__name__}")


def type_name(value: object) -> str:
    """The Go type as ``%T`` prints it."""
    if isinstance(value, GoList | GoMap | GoStruct):
        return value.type_name
    return _TYPE_NAMES[kind_of(value)]


def text_of(value: object) -> str | None:
    """What the value's ``String()`` method returns; None without one."""
    return value.text if isinstance(value, GoList | GoMap | GoStruct) else None


def is_nil(value: object) -> bool:
    return value is None or (isinstance(value, GoList | GoMap) and value.nil)


def is_true(value: object) -> bool:
    """Go templates' truth: not the zero value, not empty; a struct is always true."""
    return True if isinstance(value, GoStruct) else bool(value)


class Value(NamedTuple):
    """An operand: ``boxed`` says that its static type is ``any``, as elements of untyped maps are.

    Go tells a nil interface (boxed None: taking a field of it is an error) from no value at all
    (None unboxed: its fields are no values either).
    """

    of: object
    boxed: bool = False


NO_VALUE = Value(None)


def element(container: object, value: object) -> Value:
    """An element of a list or map, or a field of a struct, as an operand.

    A named type does not tell what its elements are: structs are taken for its own, others for any.
    """
    if value is None:
        return Value(None, boxed=True)
    if isinstance(container, GoStruct):
        return Value(value)
    name = type_name(container)
    is_named = not name.startswith(("[]", "map["))
    return Value(value, name.endswith(ANY) or (is_named and not isinstance(value, GoStruct)))


#: Decoded JSON nested deeper than this can't be given to a template.
MAX_DEPTH = 200


def from_json(value: object, depth: int = 0) -> object:
    """Decoded JSON as Go's decoder would give it to a template: every number is a float64.

    Raises PromptError where a number or the nesting goes beyond what a template can hold.
    """
    if depth > MAX_DEPTH:
        raise PromptError(f"JSON is nested more than {MAX_DEPTH} deep")
    if isinstance(value, list):
        return [from_json(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {key: from_json(item, depth + 1) for key, item in value.items()}
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise PromptError("JSON has a number beyond the range of float64") from None
    return value
