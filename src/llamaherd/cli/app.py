"""How a run of the program begins, and how whatever happens in it ends."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from llamaherd.cli.parsing import PROGRAM, ReaderGone
from llamaherd.cli.program import program
from llamaherd.cli.session import INTERRUPTED
from llamaherd.errors import LlamaherdError

#: The exit code of a program whose reader went away, as shells report SIGPIPE.
BROKEN_PIPE: Final = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; errors go to stderr as ``Error: …``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What a model writes need not exist in the terminal's character set.
            stream.reconfigure(errors="replace")
    try:
        return _run(arguments)
    except LlamaherdError as error:
        print(f"Error: {error.message}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except (BrokenPipeError, ReaderGone):
        # The interpreter flushes stdout once more at its end, which would print a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _run(arguments: Sequence[str] | None) -> int:
    code: Any = program.main(
        args=None if arguments is None else list(arguments),
        prog_name=PROGRAM,
        standalone_mode=False,
    )
    if sys.stdout is not None:
        sys.stdout.flush()
    return code if isinstance(code, int) else 0
