"""A process that makes a blob, as ``create.process`` starts it.

It reads a line of JSON from standard input, writes the blob to the file descriptor that is its
argument, and says on standard output how it goes on, in lines of JSON as well. Should standard
input end, the server is gone, and so is this process.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence

import msgspec

from llamaherd.create.report import Failed, Made, Report
from llamaherd.errors import BadRequest, LlamaherdError


def run(make: Callable[[bytes, int], str], arguments: Sequence[str]) -> int:
    """The exit code, after ``make`` was given the request and the descriptor.

    It returns the digest of what it wrote.
    """
    request = sys.stdin.buffer.readline()
    threading.Thread(target=_end_with_server, daemon=True).start()
    try:
        digest = make(request, int(arguments[0]))
    except LlamaherdError as error:
        tell(Failed(error.message, is_request=isinstance(error, BadRequest)))
        return 1
    tell(Made(digest))
    return 0


def tell(report: Report) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()


def _end_with_server() -> None:
    # Not through sys.stdin, whose lock would be in the way when the interpreter ends.
    while os.read(0, 1):
        pass
    os._exit(1)
