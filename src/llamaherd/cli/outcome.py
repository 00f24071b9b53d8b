"""How whatever happens in a run of the program ends: its exit code, and what it says."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import click

from llamaherd.cli.exits import BROKEN_PIPE, INTERRUPTED
from llamaherd.cli.parsing import PROGRAM, ReaderGone
from llamaherd.cli.program import program
from llamaherd.cli.streams import drop_output
from llamaherd.errors import LlamaherdError


def run(arguments: Sequence[str] | None) -> int:
    """Run one command line and return its exit code; errors go to stderr as ``Error: …``."""
    _prepare_streams()
    try:
        return _run(arguments)
    except LlamaherdError as error:
        print(f"Error: {error.message}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except (BrokenPipeError, ReaderGone):
        drop_output()
        return BROKEN_PIPE
    except OSError as error:
        drop_output()
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        print(f"Error: {what or error}", file=sys.stderr)
        return 1


def _prepare_streams() -> None:
    """Make the standard streams fit for any text, and replace those that the caller closed."""
    sys.stdin = sys.stdin or _nowhere(os.O_RDONLY)
    sys.stdout = sys.stdout or _nowhere(os.O_WRONLY)
    sys.stderr = sys.stderr or sys.stdout
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What a model writes need not exist in the terminal's character set.
            stream.reconfigure(errors="replace")


def _nowhere(access: int) -> TextIO:
    return os.fdopen(os.open(os.devnull, access), "r" if access == os.O_RDONLY else "w")


def _run(arguments: Sequence[str] | None) -> int:
    code: Any = program.main(
        args=None if arguments is None else list(arguments),
        prog_name=PROGRAM,
        standalone_mode=False,
    )
    sys.stdout.flush()
    return code if isinstance(code, int) else 0
