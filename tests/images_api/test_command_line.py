"""Images on the command line: files that a prompt names, at once and in a conversation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images_api.sights import CAT, DOG, Sight
from tests.support.cli import Terminal, ollama
from tests.support.server import RunningServer

READY = "Send a message"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cat.png").write_bytes(CAT)
    (tmp_path / "a dog.png").write_bytes(DOG)
    (tmp_path / "cut.png").write_bytes(CAT[:60])
    (tmp_path / "text.png").write_bytes(b"no image")
    return tmp_path


@pytest.fixture
def terminal(server: RunningServer, folder: Path) -> Iterator[Terminal]:
    terminal = Terminal("run", "llava", host=server.host, home=folder, folder=folder)
    terminal.wait_for(READY)
    yield terminal
    terminal.kill()


@pytest.mark.parametrize(
    ("prompt", "name", "files"),
    [
        ("./cat.png What is it?", "cat", ["./cat.png"]),
        ("What is it? './a dog.png'", "dog", ["./a dog.png"]),
        (r"What is it? ./a\ dog.png", "dog", ["./a dog.png"]),
        ("./cat.png ./a\\ dog.png What is it?", "both", ["./cat.png", "./a dog.png"]),
        ("./cat.png", "only", ["./cat.png"]),
        ("What is it?", "none", []),
    ],
)
def test_a_prompt_names_images(
    server: RunningServer, llava: Sight, folder: Path, prompt: str, name: str, files: list[str]
) -> None:
    done = ollama("run", "llava", prompt, host=server.host, folder=folder)
    assert done.code == 0, done.stderr
    assert done.stdout.strip() == llava.text(name).strip()
    assert done.stderr == "".join(f"Added image '{file}'\n" for file in files)


def test_words_come_from_standard_input_too(
    server: RunningServer, llava: Sight, folder: Path
) -> None:
    done = ollama("run", "llava", stdin="./cat.png What is it?", host=server.host, folder=folder)
    assert done.stdout.strip() == llava.text("cat").strip()


@pytest.mark.parametrize(
    ("prompt", "error"),
    [
        ("./text.png what?", "Couldn't process image: ./text.png: invalid image type"),
        ("./cut.png what?", "invalid image: image file is truncated"),
    ],
)
def test_a_file_that_is_no_image(
    server: RunningServer, folder: Path, prompt: str, error: str
) -> None:
    done = ollama("run", "llava", prompt, host=server.host, folder=folder)
    assert done.code == 1
    assert done.stdout == ""
    assert done.stderr.endswith(f"Error: {error}\n")


def test_a_model_that_sees_nothing_reads_the_name(server: RunningServer, folder: Path) -> None:
    done = ollama("run", "blind", "./cat.png What is it?", host=server.host, folder=folder)
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_a_conversation(terminal: Terminal, llava: Sight, folder: Path) -> None:
    terminal.type("/help\r")
    terminal.wait_for("Use /path/to/file to include .jpg, .png, or .webp images.", READY)
    terminal.type(f"{folder}/cat.png What is it?\r")
    terminal.wait_for(f"Added image '{folder}/cat.png'", llava.text("cat").split()[-1], READY)
    terminal.type("./text.png?\r")
    terminal.wait_for("Couldn't process image: ./text.png: invalid image type", READY)
    terminal.type("./cut.png?\r")
    terminal.wait_for("invalid image", READY)
    terminal.type("And this? './a dog.png'\r")
    shown = terminal.wait_for("Added image './a dog.png'", READY)
    assert "invalid image" not in shown, "what failed is no part of the conversation"
    terminal.type("/bye\r")
    assert terminal.end() == 0
    assert "Traceback" not in terminal.shown
