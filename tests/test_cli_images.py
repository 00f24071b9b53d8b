"""Images that a prompt names: which text is a file, and which files are images."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from llamaherd.cli import images
from llamaherd.cli.images import Illustrated, begins_with_image, take_images
from llamaherd.cli.repl.conversation import Conversation
from llamaherd.errors import BadRequest

PNG = b"\x89PNG\r\n\x1a\n rest"
JPEG = b"\xff\xd8\xff\xe0 rest"
WEBP = b"RIFF\x10\x00\x00\x00WEBPVP8 rest"


def image(path: Path, content: bytes = PNG) -> str:
    path.write_bytes(content)
    return str(path)


def in_base64(*contents: bytes) -> tuple[str, ...]:
    return tuple(base64.b64encode(content).decode() for content in contents)


def test_files_are_taken_out_of_the_text(tmp_path: Path) -> None:
    one, two = image(tmp_path / "one.png"), image(tmp_path / "two.JPG", JPEG)
    found = take_images(f"What is in {one} and in '{two}'?")
    assert found == Illustrated("What is in  and in ?", (one, two), in_base64(PNG, JPEG))


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a b.webp", r"a\ b.webp"),
        ("a (1).webp", r"a\ \(1\).webp"),
        ("a b.webp", "a b.webp"),
        ("it's.webp", r"it'\''s.webp"),
        ("é.webp", "é.webp"),
    ],
)
def test_names_may_be_escaped_as_for_a_shell(tmp_path: Path, name: str, written: str) -> None:
    file = image(tmp_path / name, WEBP)
    assert take_images(f"{tmp_path}/{written} what?") == Illustrated(
        "what?", (file,), in_base64(WEBP)
    )


@pytest.mark.parametrize("text", ["", " no image ", "see /no/such/file.png ", "image.png"])
def test_what_is_no_file_stays(text: str) -> None:
    assert take_images(text) == Illustrated(text)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = image(tmp_path / "text.png", b"no image")
    with pytest.raises(BadRequest, match=r"text\.png: invalid image type"):
        take_images(file)


def test_a_file_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "LARGEST", len(PNG) - 1)
    with pytest.raises(BadRequest, match="more than"):
        take_images(image(tmp_path / "large.png"))


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(BadRequest, match="Is a directory"):
        take_images(str(tmp_path / "folder.png"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/tmp/a.png what is this?", True),
        (r"/tmp/a\ b.png", True),
        ("/nonsense", False),
        ("/nonsense ./a.txt", False),
    ],
)
def test_a_line_may_begin_with_an_image(line: str, expected: bool) -> None:
    assert begins_with_image(line) is expected


def test_images_go_with_their_message() -> None:
    conversation = Conversation("llava").with_model("llava", {"capabilities": ["vision"]})
    assert conversation.sees
    conversation.ask("what?", in_base64(PNG))
    assert conversation.messages == [
        {"role": "user", "content": "what?", "images": list(in_base64(PNG))}
    ]
