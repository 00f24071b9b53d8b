"""Progress as it reads in a pipe or a log file: whole lines, nothing that moves."""

from __future__ import annotations

import io
import os
import re
import signal
import threading
from contextlib import suppress

import pytest
from rich.console import Console

from llamaherd.cli.display import PlainProgress, Spinner, follow
from llamaherd.cli.terminal import TerminalProgress
from llamaherd.errors import ServerError

DIGEST = "sha256:dc29a49675f8d45e34334883da31b22184ba844fd150383fb4da68003673e0ed"


def shown(*events: dict[str, object]) -> list[str]:
    """The lines for these events, and the success after them."""
    stream = io.StringIO()
    with PlainProgress(stream) as progress:
        follow([*events, {"status": "success"}], progress)
    *lines, last = stream.getvalue().splitlines()
    assert last == "success "
    return lines


def transfer(completed: int | None, total: int | None = 1000) -> dict[str, object]:
    return {"status": "pulling dc29", "digest": DIGEST, "total": total, "completed": completed}


def test_each_status_is_a_line_with_ollamas_space() -> None:
    assert shown({"status": "gathering model components"}) == ["gathering model components "]


def test_a_status_said_twice_is_one_line() -> None:
    assert shown({"status": "a"}, {"status": "a"}, {"status": "b"}, {}) == ["a ", "b "]


def test_a_transfer_has_a_line_for_each_tenth_it_has_come_further() -> None:
    steps = [transfer(completed) for completed in (None, 0, 99, 100, 150, 199, 555, 1000, 1000)]
    assert shown(*steps) == [
        "pulling dc29 10% ",
        "pulling dc29 55% ",
        "pulling dc29 100% ",
    ]


def test_a_transfer_of_nothing_is_complete() -> None:
    assert shown(transfer(0, 0)) == ["pulling dc29 100% "]


def test_a_step_with_an_amount_is_followed_without_a_digest() -> None:
    converting: dict[str, object] = {"status": "converting model"}
    steps = [converting, {**converting, "total": 8, "completed": 4}]
    assert shown(*steps) == ["converting model ", "converting model 50% "]


def test_in_a_terminal_a_step_that_turns_out_to_have_an_amount_stays_one_line() -> None:
    screen = io.StringIO()
    with TerminalProgress(Console(file=screen, force_terminal=True, width=80)) as progress:
        progress.status("gathering")
        progress.status("converting model")
        progress.transfer("converting model", "converting model", 8, 8)
    last = re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", screen.getvalue()).rstrip().split("\n")[-2:]
    assert last[0].strip().endswith("gathering")
    assert re.match(r"converting model 100% ━+ 8/8 bytes", last[1].strip())


def test_nothing_in_a_pipe_controls_a_terminal() -> None:
    lines = shown({"status": "one"}, transfer(500), transfer(1000))
    assert all(character.isprintable() for character in "".join(lines))


def test_a_report_that_ends_before_success_is_an_error() -> None:
    events: list[dict[str, object]] = [{"status": "pulling manifest"}, transfer(500)]
    with pytest.raises(ServerError, match="before the work was done"):
        follow(events, PlainProgress(io.StringIO()))


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (80, r"pulling dc29  30% ━+[╸╺]?━+ 1\.2/4\.0 GB.*"),
        (40, r"pulling dc29  30% ━+[╸╺]?━+ 1\.2/4\.0 GB"),
        (26, r"pulling dc29  30% ━+[╸╺]?━+"),
        (19, r"pulling dc29  30%"),
        (12, r"pull…  30%"),
    ],
)
def test_the_narrower_the_terminal_the_less_is_told_of_a_transfer(width: int, line: str) -> None:
    screen = io.StringIO()
    with TerminalProgress(Console(file=screen, force_terminal=True, width=width)) as progress:
        progress.transfer("x", "pulling dc29", 12 * 10**8, 4 * 10**9)
    last = re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    last = last.rstrip().replace("\r", "\n").split("\n")[-1]
    assert re.fullmatch(line, last.strip())
    # Room for the ^C that a terminal shows, which would break a full line.
    assert len(last.rstrip()) <= width - 2


class StuckTerminal(io.StringIO):
    """A terminal that takes nothing until somebody reads what it holds."""

    encoding = "utf-8"

    def __init__(self) -> None:
        super().__init__()
        self.reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        with suppress(BlockingIOError):
            while os.write(self._writer, b"." * 65536):
                pass
        os.set_blocking(self._writer, True)

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._writer

    def end(self) -> None:
        os.close(self._writer)


def test_a_dumb_terminal_gets_no_spinner(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = StuckTerminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "dumb")
    with Spinner() as spinner:
        spinner.stop()  # It would wait for ever if it had drawn.
    terminal.end()
    with os.fdopen(terminal.reader, "rb") as reader:
        assert not reader.read().strip(b".")


def test_a_spinner_is_gone_after_stop_even_if_ctrl_c_came_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = StuckTerminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    interrupting = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))

    def stop_interrupted() -> None:
        interrupting.start()
        spinner.stop()

    shown: list[bytes] = []
    with Spinner() as spinner, os.fdopen(terminal.reader, "rb") as reader:
        with pytest.raises(KeyboardInterrupt):
            stop_interrupted()
        reading = threading.Thread(target=lambda: shown.append(reader.read()))
        reading.start()
        spinner.stop()
        terminal.end()
        reading.join()
    assert shown[0].endswith(b"\r\x1b[K")
