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

DIGEST = "sha256:dc29a49675f8d45e34334883da31b22184ba844fd150383fb4da68003673e0ed"


def shown(*events: dict[str, object]) -> list[str]:
    stream = io.StringIO()
    with PlainProgress(stream) as progress:
        follow(events, progress)
    return stream.getvalue().splitlines()


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
    assert shown(*steps, {"status": "success"}) == [
        "converting model ",
        "converting model 50% ",
        "success ",
    ]


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
    lines = shown({"status": "one"}, transfer(500), transfer(1000), {"status": "success"})
    assert all(character.isprintable() for character in "".join(lines))


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


def test_a_spinner_is_gone_after_stop_even_if_ctrl_c_came_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = StuckTerminal()
    monkeypatch.setattr("sys.stderr", terminal)
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
