"""Durations as Go writes them (``5m``, ``1h30m``, ``-1``), in integer nanoseconds."""

from __future__ import annotations

import re
from typing import Final

NANOSECOND: Final = 1
MICROSECOND: Final = 1_000
MILLISECOND: Final = 1_000_000
SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE

#: The largest duration that Go's int64 holds; also how "for ever" is written.
FOREVER: Final = (1 << 63) - 1

_UNITS: Final = {
    "ns": NANOSECOND,
    "us": MICROSECOND,
    "µs": MICROSECOND,
    "μs": MICROSECOND,
    "ms": MILLISECOND,
    "s": SECOND,
    "m": MINUTE,
    "h": HOUR,
}
#: Digits after the point beyond these are less than a nanosecond, even of an hour.
_EXACT_DIGITS: Final = 18

_PART: Final = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]*)", re.ASCII)


class InvalidDuration(ValueError):
    """Worded as Go's ``time.ParseDuration`` words it."""


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration; raises ``InvalidDuration`` with Go's wording."""
    rest, sign = text, 1
    if rest[:1] in ("+", "-"):
        sign = -1 if rest[0] == "-" else 1
        rest = rest[1:]
    if rest == "0":
        return 0
    if not rest:
        raise InvalidDuration(f'time: invalid duration "{text}"')
    total = 0
    while rest:
        match = _PART.match(rest)
        if match is None or not (match[1] or match[2]):
            raise InvalidDuration(f'time: invalid duration "{text}"')
        if not match[3]:
            raise InvalidDuration(f'time: missing unit in duration "{text}"')
        unit = _UNITS.get(match[3])
        if unit is None:
            raise InvalidDuration(f'time: unknown unit "{match[3]}" in duration "{text}"')
        whole, fraction = match[1].lstrip("0"), (match[2] or "")[:_EXACT_DIGITS]
        if len(whole) > len(str(FOREVER)):
            raise InvalidDuration(f'time: invalid duration "{text}"')
        total += int(whole or 0) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
        if total > FOREVER:
            raise InvalidDuration(f'time: invalid duration "{text}"')
        rest = rest[match.end() :]
    return sign * total


def format_duration(nanoseconds: int) -> str:
    """As Go's ``Duration.String`` writes it: ``0s``, ``350µs``, ``1.5s``, ``2m0s``, ``1h0m5s``."""
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if rest == 0:
        return "0s"
    for unit, name in ((MICROSECOND, "ns"), (MILLISECOND, "µs"), (SECOND, "ms")):
        if rest < unit:
            return f"{sign}{_decimal(rest, unit // 1000)}{name}"
    hours, rest = divmod(rest, HOUR)
    minutes, rest = divmod(rest, MINUTE)
    longer = (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "")
    return f"{sign}{longer}{_decimal(rest, SECOND)}s"


def _decimal(value: int, unit: int) -> str:
    """``value / unit`` exactly, without trailing zeros; ``unit`` is a power of ten."""
    whole, fraction = divmod(value, unit)
    digits = f"{fraction:0{len(str(unit)) - 1}d}".rstrip("0") if fraction else ""
    return f"{whole}.{digits}" if digits else str(whole)


def keep_alive(value: str | int | float) -> int:
    """Nanoseconds of a keep-alive: a Go duration or a number of seconds; negative is for ever.

    Raises ``InvalidDuration`` for text that is neither.
    """
    if isinstance(value, str):
        try:
            seconds = float(value)
        except ValueError:
            nanoseconds = parse_duration(value)
        else:
            nanoseconds = _from_seconds(seconds)
    else:
        nanoseconds = _from_seconds(value)
    return FOREVER if nanoseconds < 0 else nanoseconds


def _from_seconds(seconds: float) -> int:
    if seconds != seconds:
        raise InvalidDuration("time: invalid duration NaN")
    if abs(seconds) >= FOREVER / SECOND:
        return FOREVER if seconds > 0 else -FOREVER
    return int(seconds * SECOND)
