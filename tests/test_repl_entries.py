"""What a person types, put together: messages of one line and of several, and commands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaherd.cli.repl.commands import (
    PARTS,
    Clear,
    Explain,
    Leave,
    ListModels,
    Load,
    Save,
    SetFormat,
    SetMode,
    SetParameter,
    SetSystem,
    SetThink,
    Show,
    Unknown,
    parse,
)
from llamaherd.cli.repl.entries import CommandLine, Composer, Entry, Message, SystemMessage


def entered(*lines: str) -> list[Entry]:
    composer = Composer()
    return [entry for line in lines if (entry := composer.feed(line)) is not None]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["Why is the sky blue?"], "Why is the sky blue?"),
        (["  indented"], "  indented"),
        ([" /bye"], " /bye"),
        (['"""one"""'], "one"),
        (['"""one', 'two"""'], "one\ntwo"),
        (['"""', "one", '"""'], "\none\n"),
        (['"""', "/bye", '"""'], "\n/bye\n"),
        (["pasted\nlines"], "pasted\nlines"),
        (["/pasted\nlines"], "/pasted\nlines"),
        (['"""', 'def f():\n    """Doc."""\n    return 1', '"""'], None),
        (['say """this"""'], 'say """this"""'),
    ],
)
def test_messages(lines: list[str], text: str | None) -> None:
    expected = '\ndef f():\n    """Doc."""\n    return 1\n' if text is None else text
    assert entered(*lines) == [Message(expected)]


@pytest.mark.parametrize("lines", [[""], ["  \t "], ['""""""'], ['"""', '"""'], ["\n\n"]])
def test_nothing_is_no_message(lines: list[str]) -> None:
    assert entered(*lines) == []


def test_a_command_is_one_line_also_when_it_was_pasted() -> None:
    assert entered("/bye", "/show info\n") == [CommandLine("/bye"), CommandLine("/show info")]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (['/set system """You are Mario."""'], "You are Mario."),
        (['/set system """You are', 'Mario."""'], "You are\nMario."),
        (['/set  system """', "You are Mario.", '"""'], "You are Mario.\n"),
    ],
)
def test_a_system_message_may_have_several_lines(lines: list[str], text: str) -> None:
    assert entered(*lines) == [SystemMessage(text)]


def test_a_message_that_was_begun_can_be_forgotten() -> None:
    composer = Composer()
    found = [(composer.feed('"""one'), composer.is_open)]
    composer.reset()
    found.append((composer.feed("two"), composer.is_open))
    assert found == [(None, True), (Message("two"), False)]


@given(st.lists(st.text(st.characters(exclude_characters='\n"')), min_size=1))
def test_whatever_stands_between_quotes_is_the_message(lines: list[str]) -> None:
    first, *rest = lines
    composer = Composer()
    entries = [composer.feed('"""' + first), *map(composer.feed, rest), composer.feed('"""')]
    text = "\n".join([*lines, ""])
    assert entries[:-1] == [None] * len(lines)
    assert entries[-1] == (Message(text) if text.strip() else None)
    assert not composer.is_open


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("/bye", Leave()),
        ("/byebye", Unknown("/byebye")),
        ("/nonsense x", Unknown("/nonsense")),
        ("/exit now", Leave()),
        ("/clear", Clear()),
        ("/list", ListModels("")),
        ("/list ma", ListModels("ma")),
        ("/load  mario", Load("mario")),
        ("/save ns/mario:1b", Save("ns/mario:1b")),
        ("/set history", SetMode("history")),
        ("/set noformat", SetMode("noformat")),
        ("/set nothink", SetMode("nothink")),
        ("/set think", SetThink("")),
        ("/set think high", SetThink("high")),
        ("/set format json", SetFormat("json")),
        ("/set parameter num_ctx 4096", SetParameter("num_ctx", ("4096",))),
        ("/set parameter stop a  b", SetParameter("stop", ("a", "b"))),
        ("/set system  Be   brief. ", SetSystem("Be   brief.")),
        *((f"/show {part}", Show(part)) for part in PARTS),
    ],
)
def test_commands(line: str, command: object) -> None:
    assert parse(line) == command


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("/load", "Usage:\n  /load <modelname>\n"),
        ("/load a b", "Usage:\n  /load <modelname>\n"),
        ("/save", "Usage:\n  /save <modelname>\n"),
        ("/set colour blue", "Unknown command '/set colour'. Type /? for help\n"),
        ("/show all", "Unknown command '/show all'. Type /? for help\n"),
        (
            "/set format xml",
            "Invalid or missing format. For 'json' mode use '/set format json'\n",
        ),
    ],
)
def test_commands_that_can_not_be_obeyed_say_why(line: str, text: str) -> None:
    assert parse(line) == Explain(text)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/?", ["/set", "/show", "/load <model>", "/save <model>", "/clear", "/bye", '"""']),
        ("/help", ["/? shortcuts"]),
        ("/? set", ["/set parameter ...", "/set system <string>", "/set nothink"]),
        ("/help /set", ["/set nohistory"]),
        ("/set", ["/set wordwrap"]),
        ("/set system", ["/set system <string>"]),
        ("/set parameter", ["/set parameter num_ctx <int>", "<string> <string> ..."]),
        ("/set parameter seed", ["/set parameter seed <int>"]),
        ("/show", [f"/show {part}" for part in PARTS]),
        ("/? show", ["/show modelfile"]),
        ("/? shortcuts", ["Ctrl + a", " Alt + b", "Ctrl + d"]),
    ],
)
def test_help_is_found_where_ollama_has_it(line: str, words: list[str]) -> None:
    command = parse(line)
    assert isinstance(command, Explain)
    assert all(word in command.text for word in words)


@pytest.mark.parametrize("sees", [False, True])
def test_help_tells_of_images_where_the_model_sees_them(sees: bool) -> None:
    command = parse("/?", sees=sees)
    assert isinstance(command, Explain)
    assert (".png" in command.text) is sees


@given(st.text(st.characters(exclude_characters="\n")))
def test_any_line_with_a_slash_means_something(rest: str) -> None:
    parse("/" + rest)
