"""Log lines: ours, and those of a runner on their way through the server."""

from __future__ import annotations

import io
import logging

import pytest

from llamaherd.observe import (
    PLAIN,
    LineFormatter,
    RequestFilter,
    leveled,
    of_no_request,
    request_id,
)
from llamaherd.runner.child import Exit


def record(level: int, message: str) -> logging.LogRecord:
    return logging.LogRecord("llamaherd.store", level, "", 0, message, None, None)


def test_a_line_is_made_of_pairs() -> None:
    line = LineFormatter().format(record(logging.WARNING, "no room"))
    assert line.startswith("time=")
    assert line.endswith('Z level=WARN source=store msg="no room"')


def test_a_line_of_a_request_has_its_id() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter())
    handler.addFilter(RequestFilter())
    for name in ("", "abc"):
        token = request_id.set(name)
        handler.handle(record(logging.INFO, "hello"))
        request_id.reset(token)
    first, second = stream.getvalue().splitlines()
    assert first.endswith("msg=hello")
    assert second.endswith("msg=hello request=abc")
    assert of_no_request().run(request_id.get) == ""


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR])
def test_the_level_of_a_runner_s_line_survives(level: int) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PLAIN)
    handler.handle(record(level, "no room"))
    assert leveled(stream.getvalue().rstrip()) == (level, "llamaherd.store: no room")


def test_other_lines_are_information() -> None:
    assert leveled("GGML_ASSERT(x) failed") == (logging.INFO, "GGML_ASSERT(x) failed")
    assert leveled("") == (logging.INFO, "")


def test_last_words_do_not_tell_where_the_engine_was_compiled() -> None:
    ended = Exit.of(-6, ["/tmp/build-x/vendor/llama.cpp/src/a.cpp:7: GGML_ASSERT(x) failed", "0x1"])
    assert ended.last_words == "llama.cpp/src/a.cpp:7: GGML_ASSERT(x) failed"
