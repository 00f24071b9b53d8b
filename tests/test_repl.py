"""The conversation that ``ollama run MODEL`` opens, in a terminal, with a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cli import Terminal, ollama
from tests.support.models import write_model
from tests.support.server import RunningServer, running_server

READY = "Send a message"
#: More tokens than a short question and its answer of 8 tokens have.
ONE_TURN = 30
SHORT = "FROM ./tiny.gguf\nPARAMETER temperature 0\nPARAMETER num_predict 8\n"
MODELFILES = {
    "tiny": SHORT,
    "talk": SHORT + "SYSTEM You are Mario.\nMESSAGE user hi\nMESSAGE assistant hello there\n",
    "long": "FROM ./tiny.gguf\nPARAMETER num_predict -1\nPARAMETER num_ctx 128\n",
}

Open = Callable[..., Terminal]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("work")
    write_model(folder / "tiny.gguf")
    with running_server(tmp_path_factory.mktemp("store")) as server:
        for model, text in MODELFILES.items():
            done = ollama("create", model, "-f", "-", stdin=text, host=server.host, folder=folder)
            assert done.code == 0, done.stderr
        yield server


@pytest.fixture
def talk_to(server: RunningServer, tmp_path: Path) -> Iterator[Open]:
    """Opens a conversation, with a home folder of its own, and waits until it is ready."""
    opened: list[Terminal] = []

    def talk_to(*arguments: str, **environment: str) -> Terminal:
        terminal = Terminal(
            "run", *arguments, host=server.host, home=tmp_path, environment=environment
        )
        opened.append(terminal)
        terminal.wait_for(READY)
        return terminal

    yield talk_to
    for terminal in opened:
        terminal.kill()


def say(terminal: Terminal, line: str, *answers: str) -> str:
    """Enter a line and wait for the answers, and for the next prompt; all that was written."""
    terminal.type(line + "\r")
    return terminal.wait_for(*answers, READY)


def leave(terminal: Terminal) -> None:
    terminal.type("/bye\r")
    assert terminal.end() == 0
    assert "Traceback" not in terminal.shown


def test_it_begins_with_what_the_model_begins_with(talk_to: Open) -> None:
    terminal = talk_to("talk")
    assert ">>> hi\r\nhello there\r\n\r\n" in terminal.shown
    leave(terminal)


def test_settings_and_what_is_said_become_a_model(talk_to: Open, server: RunningServer) -> None:
    terminal = talk_to("talk")
    say(terminal, "/set parameter seed 7", "Set parameter 'seed' to '7'")
    say(terminal, "/set parameter seed x", 'Couldn\'t set parameter: "invalid int value [x]"')
    say(terminal, "Once upon")
    say(terminal, "/set system You are Luigi.", "Set system message.")
    say(terminal, "/show system", "You are Luigi.")
    say(terminal, "/show parameters", "User defined parameters:\r\n  seed ")
    say(terminal, "/show modelfile", "SYSTEM You are Luigi.", "PARAMETER seed 7")
    say(terminal, "/save a/b/c/d", "error: The model name 'a/b/c/d' is invalid")
    say(terminal, "/save luigi", "Created new model 'luigi'")
    leave(terminal)

    saved = server.post("/api/show", model="luigi").json()
    assert saved["system"] == "You are Luigi."
    assert "seed                           7" in saved["parameters"]
    roles = [message["role"] for message in saved["messages"]]
    assert roles == ["user", "assistant", "user", "assistant", "system"]
    assert saved["messages"][2]["content"] == "Once upon"

    terminal = talk_to("tiny")
    say(terminal, "/load nosuch", "Couldn't find model 'nosuch'")
    assert ">>> Once upon" in say(terminal, "/load luigi", "Loading model 'luigi'")
    say(terminal, "/show system", "You are Luigi.")
    say(terminal, "/show info", "    seed           7")
    leave(terminal)


def test_a_message_of_several_lines(talk_to: Open, server: RunningServer) -> None:
    terminal = talk_to("tiny")
    terminal.type('"""One\r')
    terminal.wait_for('Use """ to end multi-line input')
    terminal.type("two\r")
    terminal.wait_for("... ")
    say(terminal, 'three"""')
    terminal.type("\x1b[200~/four\nfive\x1b[201~")
    terminal.wait_for("five")
    say(terminal, "")
    say(terminal, "/save lines", "Created")
    leave(terminal)
    messages = server.post("/api/show", model="lines").json()["messages"]
    assert [message["content"] for message in messages[::2]] == ["One\ntwo\nthree", "/four\nfive"]


def test_the_server_gets_the_whole_conversation(talk_to: Open, server: RunningServer) -> None:
    terminal = talk_to("tiny", "--verbose")
    first = say(terminal, "Once upon", "prompt eval count")
    second = say(terminal, "a time", "prompt eval count")
    assert tokens(second) > tokens(first)
    say(terminal, "/save talk2", "Created")
    say(terminal, "/load talk2", ">>> Once upon")
    third = say(terminal, "there", "prompt eval count")
    say(terminal, "/save talk2", "Created")
    fourth = say(terminal, "was", "prompt eval count")
    # What was said before it was saved is neither lost nor sent twice.
    assert 0 < tokens(third) - tokens(second) < ONE_TURN
    assert 0 < tokens(fourth) - tokens(third) < ONE_TURN
    say(terminal, "/load tiny", "Loading")
    say(terminal, "/clear", "Cleared session context")
    assert tokens(say(terminal, "Once upon", "prompt eval count")) == tokens(first)
    say(terminal, "/set quiet", "Set 'quiet' mode.")
    assert "prompt eval count" not in say(terminal, "Once upon")
    leave(terminal)


def tokens(shown: str) -> int:
    return int(shown.partition("prompt eval count:")[2].split()[0])


def test_ctrl_c_stops_a_reply_and_the_conversation_goes_on(talk_to: Open) -> None:
    terminal = talk_to("long")
    terminal.type("Once\r")
    terminal.wait_for("\x1b[K")  # The spinner goes away for the first word.
    terminal.interrupt()
    terminal.wait_for(READY)
    terminal.type("half a line\x03")
    terminal.wait_for("Use Ctrl + d or /bye to exit.", READY)
    terminal.type('"""\r')
    terminal.wait_for("... ")
    terminal.type("\x03")
    terminal.wait_for(READY)
    terminal.type("\x04")
    assert terminal.end() == 0
    assert "Traceback" not in terminal.shown


def test_what_goes_wrong_is_told_and_the_conversation_goes_on(talk_to: Open) -> None:
    terminal = talk_to("tiny")
    warning = 'warning: model "tiny" does not support thinking output'
    assert "Set 'think' mode." in say(terminal, "/set think", warning)
    say(terminal, "Once", "tiny:latest does not support thinking")
    say(terminal, "/set nothink", "Set 'nothink' mode.")
    assert "error" not in say(terminal, "Once")
    say(terminal, "/nonsense", "Unknown command '/nonsense'. Type /? for help")
    leave(terminal)


def test_modes(talk_to: Open) -> None:
    terminal = talk_to("tiny")
    say(terminal, "/set format json", "Set format to 'json' mode.")
    assert "{" in say(terminal, "Once")
    say(terminal, "/set noformat", "Disabled format.")
    say(terminal, "/set nowordwrap", "Set 'nowordwrap' mode.")
    say(terminal, "/set wordwrap", "Set 'wordwrap' mode.")
    say(terminal, "/list ti", "tiny:latest")
    say(terminal, "/?", "/set ")
    leave(terminal)


def test_lines_are_kept_from_one_conversation_to_the_next(talk_to: Open, tmp_path: Path) -> None:
    file = tmp_path / ".ollama" / "history"
    terminal = talk_to("tiny")
    say(terminal, "/show license", "No license was specified for this model.")
    say(terminal, "/set nohistory")
    say(terminal, "/list secret", "NAME")
    leave(terminal)
    assert file.read_text() == "/show license\n/set nohistory\n"

    terminal = talk_to("tiny", OLLAMA_NOHISTORY="1")
    terminal.type("\x1b[A\x1b[A")
    say(terminal, "", "No license was specified for this model.")
    say(terminal, "/set history")
    say(terminal, "/list public", "NAME")
    terminal.type("\x04")
    assert terminal.end() == 0
    assert file.read_text() == "/show license\n/set nohistory\n/list public\n"


def test_a_history_that_can_not_be_kept_is_no_reason_to_be_silent(
    talk_to: Open, tmp_path: Path
) -> None:
    (tmp_path / ".ollama").write_text("in the way")
    terminal = talk_to("tiny")
    shown = say(terminal, "/clear", "Cleared session context")
    assert (terminal.shown + shown).count("Warning: what is typed is not kept: ") > 0
    leave(terminal)
    assert terminal.shown.count("Warning: ") == 1
