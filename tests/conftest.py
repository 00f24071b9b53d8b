"""What every run of the tests begins with."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Take Ctrl-C as a program at a terminal does, we and the programs that we start.

    A shell has what it runs in the background ignore it, and tests of Ctrl-C would wait for ever.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
