"""From a conversation to the text that the model reads.

Building needs to know how many tokens a prompt has, which only the model can tell. So a builder is
a generator without I/O: it yields a prompt to be counted and is sent the count. ``run`` drives one
with a plain function; the server drives it with its runner::

    building = chat_prompt(template, messages, limit=4096)
    prompt = next(building)
    while True:
        prompt = building.send(await count(prompt))   # StopIteration.value is the Prompt
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Sequence
from itertools import chain, zip_longest
from typing import Final

import msgspec
from msgspec import Struct

from llamaherd.errors import BadRequest, TemplateRefusal
from llamaherd.messages import IMAGE_PLACE, ROLES, Message, Think, Tool
from llamaherd.prompt.history import shown_messages
from llamaherd.prompt.template import PromptTemplate, Values

#: Where an image stands in a prompt, by its index among the prompt's images.
_IMAGE_TAG: Final = re.compile(r"\[img-([0-9]{1,9})\]")


class Prompt(Struct, frozen=True):
    """What goes to the model.

    ``dropped`` counts the messages left out to fit the context, ``whole_count`` the tokens that the
    prompt would have with them (0 if none were). ``images`` stand in the text as ``[img-0]``,
    ``[img-1]``, … by their index.
    """

    text: str
    dropped: int = 0
    images: tuple[bytes, ...] = ()
    whole_count: int = 0

    def segments(self) -> list[str | int]:
        """Text and, by their indexes, images in their order; it begins with text.

        An image stands where its tag comes first. All other tags are text, as someone wrote them.
        """
        if not self.images:
            return [self.text]
        segments: list[str | int] = [""]
        done = 0
        waiting = set(range(len(self.images)))
        for tag in _IMAGE_TAG.finditer(self.text):
            if (index := int(tag[1])) in waiting:
                waiting.remove(index)
                segments[-1] = self.text[done : tag.start()]
                segments += [index, ""]
                done = tag.end()
        segments[-1] = self.text[done:]
        return [segments[0], *(each for each in segments[1:] if each != "")]


Building = Generator[Prompt, int, Prompt]


def run(building: Building, count: Callable[[Prompt], int]) -> Prompt:
    """The prompt, with ``count`` as the number of tokens of one."""
    try:
        prompt = next(building)
        while True:
            prompt = building.send(count(prompt))
    except StopIteration as end:
        built: Prompt = end.value
        return built


def chat_prompt(
    template: PromptTemplate,
    messages: Sequence[Message],
    *,
    limit: int | None,
    tools: Sequence[Tool] = (),
    think: Think = None,
    system: str = "",
    defaults: Sequence[Message] = (),
) -> Building:
    """Build the prompt of a chat.

    ``defaults`` are the model's own messages and come first; the model's ``system`` stands before
    everything unless the conversation opens with a system message of its own. A prompt of more
    than ``limit`` tokens loses its oldest messages, but no system message and never the last
    message, which may then be too long alone. ``limit`` None keeps everything and counts nothing.

    Raises, once it is started, ``BadRequest`` for a role that doesn't exist and ``TemplateError``
    if the template fails.
    """
    _check_roles(messages)
    conversation = [*defaults, *messages]
    if system and not (messages and messages[0].role == "system"):
        conversation.insert(0, Message(role="system", content=system))
    window = _Window(template, conversation, tuple(tools), think)
    return (yield from _fit(window, limit))


def generate_prompt(
    template: PromptTemplate | None,
    prompt: str,
    *,
    limit: int | None,
    system: str = "",
    suffix: str = "",
    defaults: Sequence[Message] = (),
    images: Sequence[bytes] = (),
    think: Think = None,
) -> Building:
    """Build the prompt of a single completion; ``template`` None takes ``prompt`` raw.

    With a ``suffix`` the template gets prompt and suffix alone, and nothing can be dropped.
    Otherwise it is a chat of ``system``, ``defaults`` and one user message.
    """
    if template is None or suffix:
        tagged = _tag_images([Message(role="user", content=prompt, images=list(images))])
        text = tagged[0].content
        if template is not None:
            text = template.render(Values(prompt=text, suffix=suffix, think=think))
        return Prompt(text, images=tuple(images))
    opening = [Message(role="system", content=system)] if system else []
    question = Message(role="user", content=prompt, images=list(images))
    window = _Window(template, [*opening, *defaults, question], (), think)
    return (yield from _fit(window, limit))


def _check_roles(messages: Sequence[Message]) -> None:
    for message in messages:
        if message.role not in ROLES:
            raise BadRequest(f'invalid role: "{message.role}"; must be one of [{" ".join(ROLES)}]')


class _Candidate(Struct, frozen=True):
    """One rendering: ``start`` is the index of the oldest message that is sure to stay."""

    start: int
    prompt: Prompt


class _Window:
    """The renderings of a conversation without its oldest messages."""

    def __init__(
        self,
        template: PromptTemplate,
        messages: Sequence[Message],
        tools: tuple[Tool, ...],
        think: Think,
    ) -> None:
        self.last = len(messages) - 1
        self._template = template
        self._messages = shown_messages(template, messages)
        self._tools = tools
        self._think = think

    def candidate(self, start: int) -> _Candidate:
        """Render without the messages before ``start``, save the system messages among them."""
        skipped = self._messages[:start]
        kept = [message for message in skipped if message.role == "system"]
        kept.extend(self._messages[start:])
        tagged = _tag_images(kept)
        values = Values(messages=tagged, tools=self._tools, think=self._think)
        images = tuple(chain.from_iterable(message.images for message in kept))
        dropped = len(self._messages) - len(kept)
        return _Candidate(start, Prompt(self._template.render(values), dropped, images))

    def first(self, starts: Iterable[int]) -> _Candidate | None:
        """The first of these renderings that the template doesn't refuse.

        Templates that insist on alternating roles refuse a conversation that begins with a reply.
        """
        for start in starts:
            try:
                return self.candidate(start)
            except TemplateRefusal:
                continue
        return None


def _fit(window: _Window, limit: int | None) -> Building:
    """The first candidate that fits, found by bisection: dropping a message shortens the prompt."""
    whole = window.candidate(0)
    if limit is None:
        return whole.prompt
    whole_count = yield whole.prompt
    if whole_count <= limit:
        return whole.prompt
    best = window.first(range(window.last, 0, -1)) or whole
    low, high = 1, best.start
    while low < high:
        middle = (low + high) // 2
        candidate = window.first(range(middle, high))
        if candidate is None:
            high = middle
        elif (yield candidate.prompt) <= limit:
            best, high = candidate, middle
        else:
            low = candidate.start + 1
    if not best.prompt.dropped:
        return best.prompt
    return msgspec.structs.replace(best.prompt, whole_count=whole_count)


def _tag_images(messages: Sequence[Message]) -> list[Message]:
    """The messages with ``[img-N]`` for each image: in place of ``[img]``, else in front.

    One that the message has already, as raw prompts do, stays where it is.
    """
    tagged: list[Message] = []
    number = 0
    for message in messages:
        if not message.images:
            tagged.append(message)
            continue
        tags = [f"[img-{number + index}]" for index in range(len(message.images))]
        number += len(tags)
        content = _with_tags(message.content, tags)
        tagged.append(msgspec.structs.replace(message, content=content))
    return tagged


def _with_tags(content: str, tags: list[str]) -> str:
    """Read once from end to end, as there may be many tags and much text."""
    there = {tag[0] for tag in _IMAGE_TAG.finditer(content)}
    first, *rest = content.split(IMAGE_PLACE)
    placed = list(zip_longest(tags[: len(rest)], rest, fillvalue=IMAGE_PLACE))
    front = [tag for tag in tags[len(rest) :] if tag not in there]
    return "".join([*front, first, *chain.from_iterable(placed)])
