"""Go's ``fmt.Sprint`` and ``Sprintln``, and how values look under a verb (``fmt/print.go``).

There are no addresses here: ``%p`` is a bad verb for everything, and structs print as values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llamaherd.errors import TemplateError
from llamaherd.prompt.go_format import (
    PLAIN,
    Spec,
    format_bool,
    format_float,
    format_hex,
    format_integer,
    format_string,
    pad,
)
from llamaherd.prompt.go_limits import Meter
from llamaherd.prompt.go_text import from_bytes
from llamaherd.prompt.go_values import (
    ANY,
    MAX_DEPTH,
    GoList,
    GoStruct,
    Uint8,
    foreign,
    is_nil,
    text_of,
    type_name,
)

_STRING_VERBS = frozenset("vsxXq")


def sprint(values: Sequence[object], meter: Meter) -> str:
    """The values in their default format, a space between two of which neither is a string."""
    printer = Printer(meter)
    after_string = True
    for value in values:
        is_string = isinstance(value, str)
        if not (is_string or after_string):
            printer.write(" ")
        printer.argument(value, "v", PLAIN)
        after_string = is_string
    return printer.result()


def sprintln(values: Sequence[object], meter: Meter) -> str:
    """The values in their default format, spaces between all of them, and a line feed."""
    printer = Printer(meter)
    for index, value in enumerate(values):
        if index:
            printer.write(" ")
        printer.argument(value, "v", PLAIN)
    printer.write("\n")
    return printer.result()


class Printer:
    """Collects printed values and charges their length to the meter."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._parts: list[str] = []
        self._reporting = False  # inside of %!verb(...), where String() is not asked

    def write(self, text: str) -> None:
        self._meter.text(len(text))
        self._parts.append(text)

    def result(self) -> str:
        return "".join(self._parts)

    def argument(self, value: object, verb: str, spec: Spec) -> None:
        """Print an argument of a call under a verb."""
        if value is None:
            if verb in "vT":
                self.write(pad("<nil>", spec))
            else:
                self._bad_verb(value, verb, spec)
        elif verb == "T":
            self.write(format_string(type_name(value), "s", spec) or "")
        elif verb in "pw":
            self._bad_verb(value, verb, spec)
        else:
            self._value(value, verb, spec, 0)

    def _value(self, value: object, verb: str, spec: Spec, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise TemplateError(f"template: value is nested more than {MAX_DEPTH} deep")
        text = text_of(value)
        if text is not None and verb in _STRING_VERBS and not (spec.sharp_v or self._reporting):
            self.write(format_string(text, verb, spec) or "")
            return
        match value:
            case None:
                self.write(f"{ANY}(nil)" if spec.sharp_v else "<nil>")
            case list() | tuple():
                self._list(value, verb, spec, depth)
            case dict():
                self._map(value, verb, spec, depth)
            case GoStruct():
                self._struct(value, verb, spec, depth)
            case bytes() if verb not in "sqxX":
                # Go's own inconsistency: the shorter name is for arguments only.
                name = "[]uint8" if depth else "[]byte"
                self._list(GoList(map(Uint8, value), type_name=name), verb, spec, depth)
            case _:
                formatted = _scalar(value, verb, spec)
                if formatted is None:
                    self._bad_verb(value, verb, spec)
                else:
                    self.write(formatted)

    def _list(self, value: Sequence[object], verb: str, spec: Spec, depth: int) -> None:
        if not self._open(value, "[", spec):
            return
        for index, item in enumerate(value):
            self._separate(index, spec)
            self._value(item, verb, spec, depth + 1)
        self.write("}" if spec.sharp_v else "]")

    def _map(self, value: dict[str, object], verb: str, spec: Spec, depth: int) -> None:
        if not self._open(value, "map[", spec):
            return
        for index, key in enumerate(sorted(value)):
            self._separate(index, spec)
            self._value(key, verb, spec, depth + 1)
            self.write(":")
            self._value(value[key], verb, spec, depth + 1)
        self.write("}" if spec.sharp_v else "]")

    def _struct(self, value: GoStruct, verb: str, spec: Spec, depth: int) -> None:
        self._open(value, "{", spec)
        for index, (name, field) in enumerate(value.fields.items()):
            self._separate(index, spec)
            if spec.plus_v or spec.sharp_v:
                self.write(f"{name}:")
            self._value(field, verb, spec, depth + 1)
        self.write("}")

    def _open(self, value: object, bracket: str, spec: Spec) -> bool:
        """Begin a composite value; False where that was all of it."""
        if not spec.sharp_v:
            self.write(bracket)
            return True
        self.write(f"{type_name(value)}{'(nil)' if is_nil(value) else '{'}")
        return not is_nil(value)

    def _separate(self, index: int, spec: Spec) -> None:
        if index:
            self.write(", " if spec.sharp_v else " ")

    def _bad_verb(self, value: object, verb: str, spec: Spec) -> None:
        self.write(f"%!{verb}(")
        if value is None:
            self.write("<nil>")
        else:
            self.write(f"{type_name(value)}=")
            outer, self._reporting = self._reporting, True
            self._value(value, "v", spec, 0)
            self._reporting = outer
        self.write(")")


def _scalar(value: object, verb: str, spec: Spec) -> str | None:
    """A value without parts under a verb; None where the verb is not for its kind."""
    match value:
        case str():
            return format_string(value, verb, spec)
        case bool():
            return format_bool(value, spec) if verb in "tv" else None
        case int():
            return format_integer(value, verb, spec, signed=not isinstance(value, Uint8))
        case float():
            return format_float(value, verb, spec)
        case complex():
            real = format_float(value.real, verb, spec)
            imaginary = format_float(value.imag, verb, replace(spec, plus=True))
            return None if real is None else f"({real}{imaginary}i)"
        case bytes() if verb in "xX":
            return format_hex(value, verb, spec)
        case bytes():
            return format_string(from_bytes(value), verb, spec)
    raise foreign(value)
