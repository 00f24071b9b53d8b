"""Reading the fields of a JSON object one by one, with errors that name their place.

For dialects whose clients expect to be told exactly what is wrong; our own API words its errors as
Go does (``gojson``). ``null`` is as good as nothing, and fields that nobody asks for are ignored.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from llamaherd.api import gojson
from llamaherd.errors import FieldError

INT32_MAX: Final = 2**31 - 1

#: How much of a wrong text is repeated in the error.
_SHOWN: Final = 40


def wrong(place: str, expected: str, value: Any) -> FieldError:
    """The error for a value at ``place`` that isn't what was ``expected``."""
    match value:
        case None:
            found = "but there is none"
        case str():
            shown = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
            found = f'not "{shown}"'
        case bool() | dict() | list():
            found = f"not {gojson.json_type(value)}"
        case _:
            found = f"not {value}"
    return FieldError(f"{place}: expected {expected}, {found}", place)


class Fields:
    """The fields of one object. ``index`` is how a place names an element: ``[{}]`` or ``.{}``.

    Everything raises ``FieldError`` for a value of the wrong kind.
    """

    def __init__(self, value: Any, place: str = "", *, index: str = "[{}]") -> None:
        if not isinstance(value, dict):
            raise wrong(place or "request body", "an object", value)
        self.raw: Final[dict[str, Any]] = value
        self._place = place
        self._index = index

    def place(self, name: str) -> str:
        return f"{self._place}.{name}" if self._place else name

    def wrong(self, name: str, expected: str) -> FieldError:
        """The error for the field as it is."""
        return wrong(self.place(name), expected, self.raw.get(name))

    def get(self, name: str) -> Any:
        return self.raw.get(name)

    def string(self, name: str, default: str = "") -> str:
        value = self.raw.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(name, "a string")
        return value

    def text(self, name: str) -> str:
        """A string that must be there."""
        value = self.raw.get(name)
        if not isinstance(value, str):
            raise self.wrong(name, "a string")
        return value

    def needed(self, name: str) -> str:
        """A string that must be there and not be empty."""
        value = self.raw.get(name)
        if not isinstance(value, str) or not value:
            raise self.wrong(name, "a string that isn't empty")
        return value

    def boolean(self, name: str, *, default: bool = False) -> bool:
        value = self.raw.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def integer(self, name: str, low: int, high: int = INT32_MAX) -> int | None:
        value = self.raw.get(name)
        if value is None:
            return None
        if type(value) is not int or not low <= value <= high:
            raise self.wrong(name, f"an integer from {low} to {high}")
        return value

    def number(self, name: str, low: float, high: float) -> float | None:
        value = self.raw.get(name)
        if value is None:
            return None
        if type(value) not in (int, float) or not low <= value <= high:
            raise self.wrong(name, f"a number from {low:g} to {high:g}")
        return float(value)

    def one_of(self, name: str, known: Collection[str], default: str = "") -> str:
        """One of the ``known`` strings; without a ``default`` it must be there."""
        value = self.raw.get(name)
        if value is None and default:
            return default
        if not isinstance(value, str) or value not in known:
            quoted = [f'"{option}"' for option in known]
            last = f" or {quoted.pop()}" if len(quoted) > 1 else ""
            raise self.wrong(name, ", ".join(quoted) + last)
        return value

    def mapping(self, name: str) -> dict[str, Any] | None:
        """An object as it is."""
        value = self.raw.get(name)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return value

    def object(self, name: str) -> Fields:
        """The fields of an object, none if it isn't there."""
        return Fields(self.mapping(name) or {}, self.place(name), index=self._index)

    def array(self, name: str) -> list[Any]:
        """An array as it is, an empty one if it isn't there."""
        value = self.raw.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(name, "an array")
        return value

    def objects(self, name: str) -> list[Fields]:
        """The fields of each object of an array."""
        return self.elements(name, self.array(name))

    def elements(self, name: str, values: Sequence[Any]) -> list[Fields]:
        """The fields of objects that stand for the elements of ``name``."""
        return [
            Fields(value, self.element(name, number), index=self._index)
            for number, value in enumerate(values)
        ]

    def element(self, name: str, number: int) -> str:
        """The place of an element of an array."""
        return self.place(name) + self._index.format(number)

    def strings(self, name: str) -> list[str]:
        """An array of strings that aren't empty."""
        values = self.array(name)
        for number, value in enumerate(values):
            if not isinstance(value, str) or not value:
                raise wrong(self.element(name, number), "a string that isn't empty", value)
        return values
