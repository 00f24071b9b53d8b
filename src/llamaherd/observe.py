"""Logging: one line per record on stderr, as ``key=value`` pairs."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import Context, ContextVar
from datetime import UTC, datetime
from typing import Final, TextIO

#: The id of the HTTP request that is being answered, "" where none is. Tasks and threads that a
#: request starts inherit it; what outlives the request is started in ``of_no_request``.
request_id: Final[ContextVar[str]] = ContextVar("request_id", default="")


def of_no_request() -> Context:
    """The context for work that no single request is the cause of."""
    return Context()


class RequestFilter(logging.Filter):
    """Gives each record the id of the request that it belongs to, as ``record.request``."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request = request_id.get()
        return True


def _quote(text: str) -> str:
    plain = text and not any(char in ' "=\\' or not char.isprintable() for char in text)
    return text if plain else json.dumps(text, ensure_ascii=False)


class LineFormatter(logging.Formatter):
    """``time=… level=… source=… msg=…``; the request and an exception follow as pairs of their own.

    ``request`` stands only in lines that belong to one.
    """

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        level = "WARN" if record.levelno == logging.WARNING else record.levelname
        line = (
            f"time={time.replace('+00:00', 'Z')} level={level} "
            f"source={record.name.removeprefix('llamaherd.')} msg={_quote(record.getMessage())}"
        )
        if request := getattr(record, "request", ""):
            line += f" request={_quote(request)}"
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
    handler.addFilter(RequestFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("llamaherd").setLevel(logging.DEBUG if debug else logging.INFO)
