"""What every run of the tests begins and ends with."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from llamaherd.llama.environment import DEVICE_VARIABLES


def pytest_configure() -> None:
    """Make this process, and the programs that it starts, independent of where it runs.

    Everything is computed by the processor: on a GPU the last digits depend on what else is in the
    batch. And Ctrl-C is taken as a program at a terminal does: a shell has what it runs in the
    background ignore it, and tests of Ctrl-C would wait for ever.
    """
    os.environ |= dict.fromkeys(DEVICE_VARIABLES, "")
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
