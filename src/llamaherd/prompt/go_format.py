"""Formatting of booleans, numbers and strings as Go's ``fmt`` does it (``fmt/format.go``)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from llamaherd.prompt.go_text import (
    can_backquote,
    is_printable,
    quote,
    to_bytes,
    unicode_name,
)

_BASES = {"b": 2, "o": 8, "O": 8, "x": 16, "X": 16}
_PYTHON_BASES = {2: "b", 8: "o", 10: "d", 16: "x"}
_REPLACEMENT = 0xFFFD


@dataclass(frozen=True, slots=True)
class Spec:
    """Flags, width and precision of one verb. ``plus_v`` and ``sharp_v`` stand for %+v and %#v."""

    width: int | None = None
    precision: int | None = None
    minus: bool = False
    plus: bool = False
    sharp: bool = False
    space: bool = False
    zero: bool = False
    plus_v: bool = False
    sharp_v: bool = False


PLAIN = Spec()


def pad(text: str, spec: Spec) -> str:
    missing = (spec.width or 0) - len(text)
    if missing <= 0:
        return text
    if spec.minus:
        return text + " " * missing
    return ("0" if spec.zero else " ") * missing + text


def format_bool(value: bool, spec: Spec) -> str:
    return pad("true" if value else "false", spec)


def format_string(text: str, verb: str, spec: Spec) -> str | None:
    """The text under one of the string verbs; None for another verb."""
    match verb:
        case "v" if spec.sharp_v:
            return _quoted(text, spec)
        case "v" | "s":
            return pad(_truncated(text, spec), spec)
        case "q":
            return _quoted(text, spec)
        case "x" | "X":
            return format_hex(to_bytes(text), verb, spec)
    return None


def _truncated(text: str, spec: Spec) -> str:
    return text if spec.precision is None else text[: spec.precision]


def _quoted(text: str, spec: Spec) -> str:
    text = _truncated(text, spec)
    if spec.sharp and can_backquote(text):
        return pad(f"`{text}`", spec)
    return pad(quote(text, ascii_only=spec.plus), spec)


def format_hex(data: bytes, verb: str, spec: Spec) -> str:
    if spec.precision is not None:
        data = data[: spec.precision]
    prefix = f"0{verb}" if spec.sharp and data else ""
    groups = [data[at : at + 1] for at in range(len(data))] if spec.space else [data]
    digits = " ".join(prefix + group.hex() for group in groups)
    return pad(digits.upper() if verb == "X" else digits, spec)


def format_integer(value: int, verb: str, spec: Spec, *, signed: bool = True) -> str | None:
    """The integer under one of the integer verbs; None for another verb."""
    match verb:
        case "v" if spec.sharp_v and not signed:
            return _digits(value, 16, "x", replace(spec, sharp=True))
        case "v" | "d":
            return _digits(value, 10, verb, spec)
        case "b" | "o" | "O" | "x" | "X":
            return _digits(value, _BASES[verb], verb, spec)
        case "c":
            return pad(_character(value), spec)
        case "q":
            return pad(quote(_character(value), delimiter="'", ascii_only=spec.plus), spec)
        case "U":
            return _code_point(value, spec)
    return None


def _character(code: int) -> str:
    valid = 0 <= code <= 0x10FFFF and not 0xD800 <= code < 0xE000
    return chr(code if valid else _REPLACEMENT)


def _code_point(value: int, spec: Spec) -> str:
    code = value & 0xFFFFFFFFFFFFFFFF
    digits = f"{code:X}".zfill(max(4, spec.precision or 0))
    quoted = ""
    if spec.sharp and code <= 0x10FFFF and is_printable(chr(code)):
        quoted = unicode_name(chr(code)).partition(" ")[2]
    return pad(f"U+{digits} {quoted}".rstrip(), replace(spec, zero=False))


def _digits(value: int, base: int, verb: str, spec: Spec) -> str:
    sign = "-" if value < 0 else "+" if spec.plus else " " if spec.space else ""
    unpadded = replace(spec, zero=False)
    least = 0
    if spec.precision is not None:
        if spec.precision == 0 and value == 0:
            return pad("", unpadded)
        least = spec.precision
    elif spec.zero and spec.width is not None and not spec.minus:
        least = spec.width - len(sign)
    digits = format(abs(value), _PYTHON_BASES[base]).zfill(least)
    prefix = "0o" if verb == "O" else ""
    if spec.sharp and base == 2:
        prefix = "0b"
    elif spec.sharp and base == 8 and not digits.startswith("0"):
        prefix += "0"
    elif spec.sharp and base == 16:
        prefix = f"0{verb}"
    if verb == "X":
        digits = digits.upper()
    return pad(sign + prefix + digits, unpadded)


def format_float(value: float, verb: str, spec: Spec) -> str | None:
    """The float under one of the float verbs; None for another verb."""
    if verb not in "vbgGxXfFeE":
        return None
    if not math.isfinite(value):
        return _not_finite(value, spec)
    sign = "-" if math.copysign(1, value) < 0 else "+"
    number = _unsigned_float(abs(value), verb, spec)
    shown = sign if sign == "-" or spec.plus else " " if spec.space else ""
    if shown and spec.zero and not spec.minus and spec.width is not None:
        return shown + pad(number, replace(spec, width=spec.width - 1))
    return pad(shown + number, spec)


def _not_finite(value: float, spec: Spec) -> str:
    if math.isnan(value):
        text = "+NaN" if spec.plus else " NaN" if spec.space else "NaN"
    elif value < 0:
        text = "-Inf"
    else:
        text = " Inf" if spec.space and not spec.plus else "+Inf"
    return pad(text, replace(spec, zero=False))


def _unsigned_float(value: float, verb: str, spec: Spec) -> str:
    precision = spec.precision
    match verb:
        case "b":
            mantissa, exponent = _binary_parts(value)
            return f"{mantissa}p{exponent:+d}"
        case "x" | "X":
            # For %#x, unlike %#X, Go takes the default precision as a number of digits to show.
            least = 4 if spec.sharp and verb == "x" else 0
            text = _hex_float(value, precision, least, point=spec.sharp)
            return text.upper() if verb == "X" else text
        case "e" | "E" | "f" | "F":
            # 'E' and 'F' differ for Python only in letters: a finite number has none with 'F'.
            mark = "#" if spec.sharp else ""
            return format(value, f"{mark}.{6 if precision is None else precision}{verb}")
    if precision is not None:
        mark = "#" if spec.sharp else ""
        text = format(value, f"{mark}.{max(precision, 1)}g")
    else:
        text = format_shortest(value)
        if spec.sharp:
            text = _with_six_digits(text)
    return text.upper() if verb == "G" else text


def format_shortest(value: float, *, least_exponent: int = -4, most_exponent: int = 5) -> str:
    """The shortest decimal that reads back as ``value`` (not negative).

    Outside of ``10**least_exponent`` to ``10**most_exponent`` it has an exponent; the defaults are
    those of %v and %g.
    """
    digits, exponent = _shortest_digits(value)
    if not least_exponent <= exponent <= most_exponent:
        fraction = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{digits[0]}{fraction}e{exponent:+03d}"
    if exponent < 0:
        return "0." + "0" * (-exponent - 1) + digits
    whole, fraction = digits[: exponent + 1].ljust(exponent + 1, "0"), digits[exponent + 1 :]
    return f"{whole}.{fraction}" if fraction else whole


def _shortest_digits(value: float) -> tuple[str, int]:
    """The significant digits, and the power of ten of the first one."""
    mantissa, _, exponent = repr(value).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return "0", 0
    # Counting the digits that lstrip took puts the first one in its place.
    first = len(whole) - 1 - (len(whole) + len(fraction) - len(digits))
    return digits.rstrip("0"), first + int(exponent or 0)


def _with_six_digits(number: str) -> str:
    """What the flag ``#`` makes of a shortest decimal: a point, and zeros up to six digits."""
    mantissa, mark, exponent = number.partition("e")
    if "." not in mantissa:
        mantissa += "."
    significant = max(1, len(mantissa.replace(".", "").lstrip("0")))
    return mantissa + "0" * (6 - significant) + mark + exponent


def _binary_parts(value: float) -> tuple[int, int]:
    """``value`` as an integer times a power of two."""
    exponent = max(math.frexp(value)[1] - 53, -1074)
    return int(math.ldexp(value, -exponent)), exponent


def _hex_float(value: float, precision: int | None, least: int, *, point: bool) -> str:
    """With ``precision`` digits after the point; without, as many as needed or ``least``."""
    fraction, exponent = math.frexp(value)
    mantissa = int(fraction * 2**53)  # 1 and 13 hexadecimal digits after the point
    exponent = exponent - 1 if value else 0
    places = 13
    if precision is not None and precision < places:
        unit = 16 ** (places - precision)
        mantissa, rest = divmod(mantissa, unit)
        mantissa += rest * 2 > unit or (rest * 2 == unit and mantissa % 2)
        places = precision
        if mantissa >> (4 * places) > 1:
            mantissa, exponent = mantissa >> 1, exponent + 1
    whole, digits = divmod(mantissa, 16**places)
    text = f"{digits:0{places}x}" if places else ""
    text = text.rstrip("0").ljust(least if precision is None else precision, "0")
    return f"0x{whole}{'.' if text or point else ''}{text}p{exponent:+03d}"
