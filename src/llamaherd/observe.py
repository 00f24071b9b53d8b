"""Logging: one line per record on stderr, as ``key=value`` pairs."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, TextIO


def _quote(text: str) -> str:
    plain = text and not any(char in ' "=\\' or not char.isprintable() for char in text)
    return text if plain else json.dumps(text, ensure_ascii=False)


class LineFormatter(logging.Formatter):
    """``time=… level=… source=… msg=…``; an exception follows as its own pair on the same line."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        level = "WARN" if record.levelno == logging.WARNING else record.levelname
        line = (
            f"time={time.replace('+00:00', 'Z')} level={level} "
            f"source={record.name.removeprefix('llamaherd.')} msg={_quote(record.getMessage())}"
        )
        if record.exc_info:
            line += f" error={_quote(self.formatException(record.exc_info))}"
        return line


#: What a runner writes to its server, which writes it on in its own form (``leveled``).
PLAIN: Final = logging.Formatter("%(levelname)s %(name)s: %(message)s")

_LEVELS: Final = logging.getLevelNamesMapping()


def leveled(line: str) -> tuple[int, str]:
    """Level and message of a line in ``PLAIN`` form; any other line is information."""
    name, _, message = line.partition(" ")
    return (_LEVELS[name], message) if name in _LEVELS else (logging.INFO, line)


def configure_logging(
    debug: bool, stream: TextIO | None = None, formatter: logging.Formatter | None = None
) -> None:
    """Send the records of llamaherd and of the libraries' warnings to ``stream`` (stderr)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter or LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("llamaherd").setLevel(logging.DEBUG if debug else logging.INFO)
