"""llama.cpp's log, as several threads hear it at once."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

from llamaherd.llama.library import LoadLog, log_callback

INFO, ERROR, CONTINUED = 2, 4, 5


def say(level: int, text: str) -> None:
    """As llama.cpp does."""
    log_callback(level, text.encode(), None)


def test_a_load_hears_what_is_said_in_its_own_thread() -> None:
    """While an image is encoded, what the engine complains of is no reason why that fails."""
    with ThreadPoolExecutor(1) as other, LoadLog() as log:
        say(INFO, "load: one\n")
        other.submit(say, ERROR, "decode: failed to find room\n").result()
        assert log.lines == ["load: one"]
        say(ERROR, "encode: out of memory\n")
    assert log.reason == "out of memory"


def test_lines_in_pieces_are_not_mixed(caplog: pytest.LogCaptureFixture) -> None:
    with ThreadPoolExecutor(1) as other, caplog.at_level(logging.DEBUG):
        say(INFO, "loading ")
        other.submit(say, ERROR, "failed\n").result()
        say(CONTINUED, "done\n")
    lines = [(record.levelno, record.message) for record in caplog.records]
    assert lines == [(logging.ERROR, "failed"), (logging.DEBUG, "loading done")]


def test_within_another_a_listener_hears_alone() -> None:
    with LoadLog() as outer:
        with LoadLog() as inner:
            say(INFO, "inner\n")
        say(INFO, "outer\n")
    assert (inner.lines, outer.lines) == (["inner"], ["outer"])
