"""Images in prompts: files that a text names, for models that can see."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from llamaherd.errors import BadRequest

#: More than this is no image that a model is shown, in bytes.
LARGEST: Final = 100 << 20

#: As in Ollama: from a slash, a dot and a slash or a backslash up to an image's ending. What isn't
#: a file is left in the text.
_NAME: Final = re.compile(
    r"(?:[a-zA-Z]:)?(?:\./|/|\\)[\S\\ ]+?\.(?:jpg|jpeg|png|webp)\b", re.IGNORECASE
)
#: What terminals put before special characters of a file that is dropped onto them.
_ESCAPE: Final = re.compile(r"\\([ ()\[\]{}$&;'\\*?~])")

#: How the files begin: JPEG, PNG, and WebP within RIFF.
_BEGINNINGS: Final = (
    re.compile(rb"\xff\xd8\xff"),
    re.compile(rb"\x89PNG\r\n\x1a\n"),
    re.compile(rb"RIFF....WEBPVP", re.DOTALL),
)


class Illustrated(NamedTuple):
    """A text without the names of its images; their files, and their contents in base64."""

    text: str
    files: tuple[str, ...] = ()
    images: tuple[str, ...] = ()


def can_see(information: Mapping[str, Any]) -> bool:
    """Whether a model takes images, as ``/api/show`` tells of it."""
    return "vision" in (information.get("capabilities") or ())


def begins_with_image(line: str) -> bool:
    """Whether a line that begins with a slash, and is no command, begins with an image's name."""
    first = line.split()[0]
    return any(name.startswith(first) for name in _NAME.findall(line))


def take_images(text: str) -> Illustrated:
    """Raises ``BadRequest`` for a file that is there, but can't be shown to a model."""
    files, images = [], []
    for name in _NAME.findall(text):
        file = _ESCAPE.sub(r"\1", name.replace("'\\''", "'"))
        if not Path(file).exists():
            continue
        images.append(base64.b64encode(_read(file)).decode())
        files.append(file)
        for written in (f"'{file}'", f"'{name}'", name):
            text = text.replace(written, "")
    return Illustrated(text.strip() if files else text, tuple(files), tuple(images))


def _read(file: str) -> bytes:
    try:
        with Path(file).open("rb") as content:
            data = content.read(LARGEST + 1)
    except OSError as error:
        raise BadRequest(f"Couldn't process image: {file}: {error.strerror}") from error
    if not any(beginning.match(data) for beginning in _BEGINNINGS):
        raise BadRequest(f"Couldn't process image: {file}: invalid image type")
    if len(data) > LARGEST:
        raise BadRequest(f"Couldn't process image: {file}: more than {LARGEST >> 20} MiB")
    return data
