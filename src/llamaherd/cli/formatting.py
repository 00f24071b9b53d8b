"""Sizes, times and tables, worded and laid out as users of Ollama know them. Pure text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from textwrap import TextWrapper
from typing import Final
from unicodedata import category, east_asian_width

from llamaherd.errors import LlamaherdError

PADDING: Final = "    "
_UNITS: Final = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("KB", 10**3))
_YEAR: Final = timedelta(days=365)


def human_bytes(size: int) -> str:
    """Decimal units, cut not rounded from 10 on: ``168 B``, ``1.1 MB``, ``46 MB``."""
    for unit, value in _UNITS:
        if size >= value:
            number = size / value
            if number >= 10 or size % value == 0:
                return f"{size // value} {unit}"
            return f"{number:.1f} {unit}"
    return f"{size} B"


def human_duration(span: timedelta) -> str:
    """A length of time with one unit: ``About a minute``, ``36 hours``, ``3 weeks``."""
    seconds = int(span.total_seconds())
    hours = int(span.total_seconds() / 3600 + 0.5)
    if seconds < 1:
        return "Less than a second"
    if seconds < 60:
        return "1 second" if seconds == 1 else f"{seconds} seconds"
    if seconds < 3600:
        return "About a minute" if seconds < 120 else f"{seconds // 60} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    days = hours // 24
    if days < 14:
        return f"{days} days"
    if days < 60:
        return f"{days // 7} weeks"
    return f"{days // 30} months" if days < 2 * 365 else f"{days // 365} years"


def human_time(moment: datetime, now: datetime) -> str:
    """``5 minutes ago``, ``4 minutes from now``; more than 20 years ahead is ``Forever``."""
    if moment.year == 1:
        return "Never"
    if moment - now > 20 * _YEAR:
        return "Forever"
    if moment > now:
        return f"{human_duration(moment - now)} from now"
    return f"{human_duration(now - moment)} ago"


def parse_time(text: str) -> datetime:
    """An RFC 3339 time as the API writes it, to the microsecond."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise LlamaherdError(f"the server sent {text!r} where a time was expected") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def cell_width(text: str) -> int:
    """Columns that ``text`` takes in a terminal."""
    return sum(character_width(character) for character in text)


def character_width(character: str) -> int:
    """Columns of one character: 2 for East Asian wide ones and emoji, 0 for combining ones."""
    if character < "\x7f":
        return 1
    if category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def table(rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> str:
    """Columns four spaces apart, each line padded to the full width, as Ollama's tables are."""
    widths = _widths([header, *rows])
    lines = [
        "".join(_pad(cell, width) + PADDING for cell, width in zip(row, widths, strict=False))
        for row in rows
    ]
    if header:
        cells = [_pad(cell, width) for cell, width in zip(header, widths, strict=True)]
        lines.insert(0, PADDING.join(cells) + " ")
    return "".join(line + "\n" for line in lines)


def section(title: str, rows: Sequence[Sequence[str]]) -> str:
    """A titled, indented table and an empty line, as ``ollama show`` prints them."""
    return f"  {title}\n{table([('', *row) for row in rows])}\n"


def excerpt(text: str, lines: int, width: int) -> list[tuple[str]]:
    """The first ``lines`` lines that aren't empty, wrapped to ``width``, and ``...`` for more."""
    found = [line.strip() for line in text.splitlines() if line.strip()]
    wrapper = TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    rows = [(part,) for line in found[:lines] for part in wrapper.wrap(line)]
    return rows + ([("...",)] if len(found) > lines else [])


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    columns = max((len(row) for row in rows), default=0)
    return [
        max(cell_width(row[column]) for row in rows if column < len(row))
        for column in range(columns)
    ]


def _pad(cell: str, width: int) -> str:
    return cell + " " * (width - cell_width(cell))
