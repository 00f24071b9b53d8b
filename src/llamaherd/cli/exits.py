"""Exit codes of a program that was ended from outside, as shells report the signals."""

from __future__ import annotations

from typing import Final

#: Ctrl-C: SIGINT.
INTERRUPTED: Final = 130

#: The reader of the output went away: SIGPIPE.
BROKEN_PIPE: Final = 141
