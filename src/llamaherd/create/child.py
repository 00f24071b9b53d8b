"""A process that makes blobs, as ``create.process`` starts it.

It reads a line of JSON from standard input, writes the blobs to the file descriptors that are its
arguments, and says on standard output how it goes on, in lines of JSON as well. Should standard
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


def run(make: Callable[[bytes, Sequence[int]], list[str]], arguments: Sequence[str]) -> int:
    """The exit code, after ``make`` was given the request and the descriptors.

    It returns the digests of what it wrote, in the order of the descriptors; the last ones may
    stay unused.
    """
    request = sys.stdin.buffer.readline()
    threading.Thread(target=_end_with_server, daemon=True).start()
    try:
        digests = make(request, [int(argument) for argument in arguments])
    except LlamaherdError as error:
        tell(Failed(error.message, is_request=isinstance(error, BadRequest)))
        return 1
    tell(Made(digests))
    return 0


def tell(report: Report) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()


def _end_with_server() -> None:
    # Not through sys.stdin, whose lock would be in the way when the interpreter ends.
    while os.read(0, 1):
        pass
    os._exit(1)
