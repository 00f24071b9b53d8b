"""What every run of the tests begins and ends with."""

from __future__ import annotations

import signal
import sys

import pytest


def pytest_configure() -> None:
    """Take Ctrl-C as a program at a terminal does, we and the programs that we start.

    A shell has what it runs in the background ignore it, and tests of Ctrl-C would wait for ever.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure() -> None:
    """Close what llama-cpp-python opens when it is imported, lest a complaint be the last line."""
    if utilities := sys.modules.get("llama_cpp._utils"):
        utilities.outnull_file.close()
        utilities.errnull_file.close()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Where tests that are coroutines run, but for those that say otherwise."""
    return "asyncio"
