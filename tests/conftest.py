"""What every run of the tests begins and ends with."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator

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


def pytest_collection_finish() -> None:
    """What is there by now stays: the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Close what llama-cpp-python opens when it is imported, lest a complaint be the last line."""
    if utilities := sys.modules.get("llama_cpp._utils"):
        utilities.outnull_file.close()
        utilities.errnull_file.close()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Where tests that are coroutines run, but for those that say otherwise."""
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)
def nothing_left_over() -> Iterator[None]:
    """Have the connections that client libraries leave to the garbage collector closed here.

    Their complaints are told with a traceback, for which Python 3.11 parses source code. Should one
    come while Hypothesis parses some, that fails with a SystemError. What is left has a reason, and
    is not looked at again.
    """
    yield
    gc.collect()
    gc.freeze()
