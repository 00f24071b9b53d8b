"""Where the program begins.

Most of the time of a short command goes into imports, so Ctrl-C may well come during them. Nothing
but what is here is imported before that is minded.
"""

from __future__ import annotations

from collections.abc import Sequence

from llamaherd.cli.exits import INTERRUPTED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; errors go to stderr as ``Error: …``."""
    try:
        from llamaherd.cli.outcome import run

        return run(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
