"""A model's thinking, told from its answer by the tags around it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final, Literal

from msgspec import Struct

from llamaherd.errors import LlamaherdError
from llamaherd.events import Text, Thinking
from llamaherd.messages import Message
from llamaherd.prompt import go_ast
from llamaherd.prompt.template import GoTemplate, PromptTemplate, Values


class Tags(Struct, frozen=True):
    opening: str = "<think>"
    closing: str = "</think>"


#: What most families write.
USUAL_TAGS: Final = Tags()

#: Tags of families, recognised by their names in a template that doesn't itself write thinking.
_FAMILIES: Final = (
    USUAL_TAGS,
    Tags("<|START_THINKING|>", "<|END_THINKING|>"),
    Tags("[THINK]", "[/THINK]"),
    Tags("<seed:think>", "</seed:think>"),
    Tags("<mm:think>", "</mm:think>"),
    Tags("<longcat_think>", "</longcat_think>"),
    Tags("<reasoning>", "</reasoning>"),
    Tags("<thinking>", "</thinking>"),
    Tags("<|inner_prefix|>", "<|inner_suffix|>"),
    Tags("<|channel>thought", "<channel|>"),
    Tags("<think:opensource>", "</think:opensource>"),
    Tags("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
    Tags("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
)

#: Thinking and an answer that no template has in its text.
_THOUGHT: Final = "\u2063\u2063"
_ANSWER: Final = "\u2064\u2064"


@lru_cache(maxsize=64)
def thinking_tags(template: PromptTemplate) -> Tags:
    """The tags of models with this template, by default the usual ones.

    As in Ollama, a Go template tells them by the texts at both ends of the block that prints a
    message's ``.Thinking``. Any other tells them by what it writes before thinking, or mentions.
    """
    if isinstance(template, GoTemplate):
        found = [tags for block in template.tree.blocks.values() for tags in _tags_in(block)]
        if found:
            return found[-1]
    before, shown, _ = _render_thinking(template).partition(_THOUGHT)
    written = (tags for tags in _FAMILIES if shown and before.rstrip().endswith(tags.opening))
    named = (tags for tags in _FAMILIES if tags.closing in template.text)
    return next(written, None) or next(named, USUAL_TAGS)


def _render_thinking(template: PromptTemplate) -> str:
    """A conversation whose last message thinks; empty if the template doesn't take it."""
    answer = Message(role="assistant", content=_ANSWER, thinking=_THOUGHT)
    messages = (Message(role="user", content="go"), answer)
    try:
        return template.render(Values(messages=messages, think=True))
    except LlamaherdError:
        return ""


def _tags_in(block: go_ast.Block) -> Iterator[Tags]:
    if any(isinstance(node, go_ast.Action) and _prints_thinking(node) for node in block):
        first, last = block[0], block[-1]
        if isinstance(first, go_ast.Text) and isinstance(last, go_ast.Text):
            opening, closing = first.text.strip(), last.text.strip()
            if opening and closing:
                yield Tags(opening, closing)
    for node in block:
        if isinstance(node, go_ast.If | go_ast.With | go_ast.Range):
            yield from _tags_in(node.body)
            yield from _tags_in(node.otherwise)


def _prints_thinking(action: go_ast.Action) -> bool:
    return any(
        isinstance(operand, go_ast.Field | go_ast.Variable) and operand.names[-1:] == ("Thinking",)
        for command in action.pipe.commands
        for operand in command.args
    )


class TagSplitter:
    """Splits a text into thinking and answer while it is being written.

    Only a reply that begins with the opening tag thinks; ``opened`` says that the prompt has it
    already. White space after either tag belongs to neither, as in Ollama. Models that need not
    think may say so by the closing tag alone.
    """

    def __init__(self, tags: Tags = USUAL_TAGS, *, opened: bool = False) -> None:
        self._tags = tags
        self._state: Literal["before", "thinking", "after"] = "thinking" if opened else "before"
        self._at_border = True  # where white space is dropped
        self._held = ""

    def feed(self, text: str) -> list[Text | Thinking]:
        if self._state == "after" and not self._at_border:
            return [Text(text)] if text else []
        self._held += text
        return list(self._split())

    def finish(self) -> list[Text | Thinking]:
        """What was held back because it might have been part of a tag."""
        held, self._held = self._held, ""
        if not held or (self._at_border and not held.strip() and self._state != "before"):
            return []
        return [Thinking(held) if self._state == "thinking" else Text(held)]

    def _split(self) -> Iterator[Text | Thinking]:
        if self._state == "before" and not self._find_opening():
            return
        if self._state == "thinking":
            yield from self._think()
        if self._state == "after":
            yield from map(Text, self._give(len(self._held)))

    def _find_opening(self) -> bool:
        """Whether it is known if the reply thinks."""
        start = self._held.lstrip()
        if start.startswith(self._tags.opening):
            self._held = start[len(self._tags.opening) :]
            self._state = "thinking"
        elif start.startswith(self._tags.closing):
            self._held = start[len(self._tags.closing) :]
            self._state = "after"
        elif self._tags.opening.startswith(start) or self._tags.closing.startswith(start):
            return False
        else:
            self._state = "after"
            self._at_border = False
        return True

    def _think(self) -> Iterator[Thinking]:
        closing = self._tags.closing
        end = self._held.find(closing)
        if end < 0:
            possible = range(min(len(closing) - 1, len(self._held)), 0, -1)
            kept = next((n for n in possible if closing.startswith(self._held[-n:])), 0)
            yield from map(Thinking, self._give(len(self._held) - kept))
            return
        yield from map(Thinking, self._give(end))
        self._held = self._held[len(closing) :]
        self._state = "after"
        self._at_border = True

    def _give(self, end: int) -> Iterator[str]:
        """The held text up to here, if there is any; at a border without leading white space."""
        text, self._held = self._held[:end], self._held[end:]
        if self._at_border:
            text = text.lstrip()
        if text:
            self._at_border = False
            yield text
