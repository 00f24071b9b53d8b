"""The syntax of the command line: its errors in the words that scripts know, and its help."""

from __future__ import annotations

import subprocess
import sys

import pytest

from llamaherd.cli.app import main
from llamaherd.cli.program import program
from llamaherd.version import OLLAMA_VERSION
from tests.support.cli import ollama, recorded

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    "command",
    ["show", "cp mario", "rm", "run", "pull", "nosuchcmd", "run mario Once --keepalive bogus"],
)
def test_mistakes_are_answered_as_ollama_does(command: str, capsys: Captured) -> None:
    expected = recorded(command)
    assert main(command.split()) == expected.code
    assert capsys.readouterr() == (expected.stdout, expected.stderr)


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("serve now", "accepts 0 arg(s), received 1"),
        ("list --foo", "unknown flag: --foo"),
        ("--verbose list", "unknown flag: --verbose"),
        ("show -x m", "unknown shorthand flag: 'x' in -x"),
        ("create m --file", "flag needs an argument: --file"),
        ("create m -f", "flag needs an argument: 'f' in -f"),
        ("show m --system=perhaps", 'invalid argument "perhaps" for "--system" flag'),
        ("show m --system --template", "only one of '--license', '--modelfile', '--parameters'"),
        ("run m --think=maybe", 'invalid value for --think: "maybe" (must be true, false'),
        ("run m --format xml", 'invalid format: expected "json" or a JSON schema'),
        ("help nosuch", 'unknown command "nosuch" for "ollama"'),
    ],
)
def test_mistakes_are_explained(command: str, error: str, capsys: Captured) -> None:
    assert main(command.split()) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"Error: {error}")


@pytest.mark.parametrize(
    ("line", "flag", "value"),
    [
        ("create m -f file", "file", "file"),
        ("create m -ffile", "file", "file"),
        ("create m -f=file", "file", "file"),
        ("create m --file=a=b", "file", "a=b"),
        ("show m -v=true", "verbose", True),
        ("show m -v=false", "verbose", False),
        ("run m", "think", None),
        ("run m --think", "think", "true"),
        ("run m --think=", "think", ""),
        ("run m --think -- --think=low", "think", "true"),
    ],
)
def test_flags_are_read_as_ollama_reads_them(line: str, flag: str, value: object) -> None:
    name, *arguments = line.split()
    context = program.commands[name].make_context(name, arguments)
    assert context.params[flag] == value


def test_the_version_flag_takes_a_value(capsys: Captured) -> None:
    assert main(["--version=false"]) == 0
    assert "Usage:" in capsys.readouterr().out


def test_without_a_command_there_is_the_overview(capsys: Captured) -> None:
    assert main([]) == 0
    overview = capsys.readouterr().out
    assert all(f"\n  {name} " in overview for name in program.commands)
    assert main(["help"]) == main(["--help"]) == 0
    assert capsys.readouterr().out == overview * 2


@pytest.mark.parametrize("name", list(program.commands))
def test_every_command_explains_itself(name: str, capsys: Captured) -> None:
    assert main([name, "--help"]) == 0
    asked_one_way = capsys.readouterr().out
    assert main(["help", name]) == 0
    assert capsys.readouterr().out == asked_one_way
    assert f"\n\nUsage:\n  ollama {name}" in asked_one_way


def test_aliases_are_named_in_the_help(capsys: Captured) -> None:
    assert main(["start", "-h"]) == 0
    assert "Aliases:\n  serve, start\n" in capsys.readouterr().out


def test_a_command_without_a_server_says_how_to_start_one() -> None:
    assert ollama("list") == recorded("list", occurrence=1)


def test_the_version_is_told_without_a_server() -> None:
    outcome = ollama("--version")
    assert outcome.code == 0
    assert outcome.stdout == (
        "Warning: could not connect to a running Ollama instance\n"
        f"Warning: client version is {OLLAMA_VERSION}\n"
    )


def test_a_senseless_environment_variable_is_named() -> None:
    outcome = ollama("list", host="127.0.0.1:notaport")
    assert outcome.code == 1
    assert outcome.stderr.startswith("Error: OLLAMA_HOST='127.0.0.1:notaport': ")


def test_a_start_imports_no_heavy_library() -> None:
    code = "import sys, llamaherd.cli.outcome; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"llama_cpp", "numpy", "starlette", "jinja2", "rich", "prompt_toolkit", "asyncio"}
    assert not heavy & set(loaded)


def test_ctrl_c_during_the_start_is_no_traceback() -> None:
    code = """
import os, signal, sys
class CtrlC:
    def find_spec(self, name, path, target=None):
        if name == "click":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, CtrlC())
from llamaherd.cli.app import main
sys.exit(main(["list"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")
