"""Go's ``fmt.Sprintf``: format strings with flags, width, precision and argument indexes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from llamaherd.prompt.go_format import PLAIN, Spec
from llamaherd.prompt.go_limits import Meter
from llamaherd.prompt.go_print import Printer
from llamaherd.prompt.go_values import type_name

_MAX_NUMBER = 1_000_000  # a width or precision beyond is an error in Go too
_DIGITS = re.compile("[0-9]+")
_FLAGS = {"#": "sharp", "0": "zero", "+": "plus", "-": "minus", " ": "space"}


def sprintf(format_: str, values: Sequence[object], meter: Meter) -> str:
    """The values under the verbs of a format; misuse shows in the text, as in Go."""
    return _Formatter(format_, values, meter).run()


class _Formatter:
    def __init__(self, format_: str, values: Sequence[object], meter: Meter) -> None:
        self._format = format_
        self._at = 0
        self._values = values
        self._next = 0  # the argument that the next verb takes
        self._reordered = False  # an argument was asked for by its index
        self._good_index = True
        self._meter = meter
        self._printer = Printer(meter)

    def run(self) -> str:
        while (percent := self._format.find("%", self._at)) >= 0:
            self._printer.write(self._format[self._at : percent])
            self._at = percent + 1
            self._directive()
        self._printer.write(self._format[self._at :])
        if not self._reordered and self._next < len(self._values):
            self._report_extra_values()
        return self._printer.result()

    def _directive(self) -> None:
        self._meter.step()
        self._good_index = True
        spec = self._flags()
        indexed = self._index()
        spec, indexed = self._width(spec, indexed)
        spec, indexed = self._precision(spec, indexed)
        if not indexed:
            self._index()
        verb = self._char()
        self._at += 1
        if not verb:
            self._printer.write("%!(NOVERB)")
        elif verb == "%":
            self._printer.write("%")
        elif not self._good_index:
            self._printer.write(f"%!{verb}(BADINDEX)")
        elif self._next >= len(self._values):
            self._printer.write(f"%!{verb}(MISSING)")
        else:
            self._next += 1
            if verb == "v":
                spec = replace(spec, sharp=False, plus=False, sharp_v=spec.sharp, plus_v=spec.plus)
            self._printer.argument(self._values[self._next - 1], verb, spec)

    def _char(self) -> str:
        return self._format[self._at : self._at + 1]

    def _flags(self) -> Spec:
        flags: dict[str, bool] = {}
        while flag := _FLAGS.get(self._char()):
            flags[flag] = True
            self._at += 1
        return Spec(**flags) if flags else PLAIN

    def _index(self) -> bool:
        """Step over an explicit argument index such as ``[2]``; whether there was one."""
        if self._char() != "[":
            return False
        self._reordered = True
        rest = len(self._format) - self._at
        self._meter.step(rest // 4096)  # for the search
        close = self._format.find("]", self._at) if rest > 2 else -1
        self._at += 1
        number = self._number(close) if close >= 0 else None
        complete = number is not None and self._at == close
        if close >= 0:
            self._at = close + 1
        if number is not None and complete and 0 < number <= len(self._values):
            self._next = number - 1
        else:
            self._good_index = False
        return complete

    def _number(self, end: int) -> int | None:
        """The decimal number at the cursor; one that is too large takes all up to ``end``."""
        found = _DIGITS.match(self._format, self._at, end)
        if not found:
            return None
        self._at = found.end()
        digits = found.group().lstrip("0")
        if len(digits) > 8 or int(digits[:-1] or "0") > _MAX_NUMBER:
            self._at = end
            return None
        return int(digits or "0")

    def _width(self, spec: Spec, indexed: bool) -> tuple[Spec, bool]:
        if self._char() != "*":
            width = self._number(len(self._format))
            if width is not None:
                spec = replace(spec, width=width)
                self._good_index = self._good_index and not indexed
            return spec, indexed
        self._at += 1
        width = self._integer_argument()
        if width is None:
            self._printer.write("%!(BADWIDTH)")
        elif width < 0:
            spec = replace(spec, width=-width, minus=True, zero=False)
        else:
            spec = replace(spec, width=width)
        return spec, False

    def _precision(self, spec: Spec, indexed: bool) -> tuple[Spec, bool]:
        if self._char() != ".":
            return spec, indexed
        self._at += 1
        self._good_index = self._good_index and not indexed
        indexed = self._index()
        if self._char() != "*":
            return replace(spec, precision=self._number(len(self._format)) or 0), indexed
        self._at += 1
        precision = self._integer_argument()
        if precision is None or precision < 0:
            self._printer.write("%!(BADPREC)")
        else:
            spec = replace(spec, precision=precision)
        return spec, False

    def _integer_argument(self) -> int | None:
        """The next argument as a width or precision; None if it can't be one."""
        if self._next >= len(self._values):
            return None
        value = self._values[self._next]
        self._next += 1
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _MAX_NUMBER:
            return None
        return value

    def _report_extra_values(self) -> None:
        self._printer.write("%!(EXTRA ")
        for index, value in enumerate(self._values[self._next :]):
            if index:
                self._printer.write(", ")
            if value is not None:
                self._printer.write(f"{type_name(value)}=")
            self._printer.argument(value, "v", PLAIN)
        self._printer.write(")")
