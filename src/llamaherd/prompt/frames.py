"""What some families write around their answers' texts, told by their templates.

::

    <|START_RESPONSE|>Hello!<|END_RESPONSE|>
    <|open|>response<|sep|>Hello!<|close|>response<|sep|><|close|>message<|sep|>
    >>>all
    Hello!
    <think>Hm.</think><response>Hello!</response>

The first is Cohere's, the second Moonshot's Kimi K3, the third Functionary 3.2, whose prompts end
with ``>>>`` for the model to say whom it addresses. The last is Granite 3.3, which does so where it
is asked to think.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from msgspec import Struct

from llamaherd.events import Text
from llamaherd.grammar import Exactly, Form, InOrder
from llamaherd.messages import Think
from llamaherd.prompt.tags import Tags, TagSplitter
from llamaherd.prompt.template import PromptTemplate


class Frame(Struct, frozen=True):
    """``opening`` and ``closing`` are the texts around an answer's.

    ``marks`` in a template tell the family. ``dropped`` are further texts that belong to no answer.
    ``begun`` is how both an ``opening`` and a call begin where the prompt has that already. If
    they are ``always`` there, then also around nothing, before calls. Those that come only
    ``after_thinking`` are ordinary words, which an answer may have elsewhere too.
    """

    opening: str
    closing: str = ""
    marks: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    begun: str = ""
    always: bool = False
    after_thinking: bool = False

    def begun_by(self, prompt: str) -> str:
        """What the prompt already has of the reply."""
        possible = (text for text in (self.opening, self.begun) if text)
        return next((text for text in possible if prompt.endswith(text)), "")

    def around(self, answer: Form, prompt: str) -> Form:
        """The form of a whole reply with this answer."""
        opening = self.opening.removeprefix(self.begun_by(prompt))
        return InOrder((Exactly(opening), answer, Exactly(self.closing)))

    def before(self, calls: Form, prompt: str) -> Form:
        """The form of a reply that calls and says nothing."""
        if not self.always:
            return calls
        nothing = (self.opening + self.closing).removeprefix(self.begun_by(prompt))
        return InOrder((Exactly(nothing), calls))


_FRAMES: Final = (
    Frame("<|START_RESPONSE|>", "<|END_RESPONSE|>", marks=("<|START_RESPONSE|>",)),
    Frame("<|START_TEXT|>", "<|END_TEXT|>", marks=("<|START_TEXT|>",)),
    Frame(
        "<|open|>response<|sep|>",
        "<|close|>response<|sep|>",
        marks=("<|open|>", "<|sep|>", "<|end_of_msg|>"),
        dropped=("<|close|>message<|sep|>", "<|end_of_msg|>"),
        always=True,
    ),
    Frame(">>>all\n", marks=(">>>all", ">>>${recipient}"), begun=">>>"),
    Frame("<response>", "</response>", marks=("<response></response>",), after_thinking=True),
)


@lru_cache(maxsize=64)
def frame_of(template: PromptTemplate, think: Think = None) -> Frame | None:
    """What models with this template write around their answers, None if nothing."""
    possible = (frame for frame in _FRAMES if think or not frame.after_thinking)
    found = (frame for frame in possible if all(mark in template.text for mark in frame.marks))
    return next(found, None)


class Unframer:
    """Takes a frame's texts out of a reply while it is being written.

    They are special tokens, or close to it, so that they mean nothing else wherever they stand.
    """

    def __init__(self, frame: Frame) -> None:
        texts = [text for text in (frame.opening, frame.closing, *frame.dropped) if text]
        self._texts = tuple(texts)
        self._pattern = re.compile("|".join(map(re.escape, texts)))
        self._longest = max(map(len, texts))
        self._held = ""

    def feed(self, text: str) -> list[Text]:
        *whole, rest = self._pattern.split(self._held + text)
        end = len(rest) - self._undecided(rest)
        self._held = rest[end:]
        return [Text(part) for part in (*whole, rest[:end]) if part]

    def finish(self) -> list[Text]:
        """What was held back because it might have been part of the frame."""
        held, self._held = self._held, ""
        return [Text(held)] if held else []

    def _undecided(self, text: str) -> int:
        """How many of the last characters may be the beginning of one of the texts."""
        longest = min(len(text), self._longest - 1)
        ends = (text[-length:] for length in range(longest, 0, -1))
        return next((len(end) for end in ends if any(t.startswith(end) for t in self._texts)), 0)


class Unwrapper:
    """Takes a frame of ordinary words from around an answer while it is being written.

    The opening counts at the beginning of the answer alone, and the closing only after it.
    """

    def __init__(self, frame: Frame) -> None:
        self._splitter = TagSplitter(Tags(frame.opening, frame.closing))

    def feed(self, text: str) -> list[Text]:
        return [Text(part.text) for part in self._splitter.feed(text)]

    def finish(self) -> list[Text]:
        """What was held back because it might have been part of the frame."""
        return [Text(part.text) for part in self._splitter.finish()]


def unframed(frame: Frame) -> Unframer | Unwrapper:
    """What takes the frame out of a reply."""
    return Unwrapper(frame) if frame.after_thinking else Unframer(frame)
