"""Prompt templates: what they are given, what they can do, and Ollama's way of using Go's.

A Go template with ``.Messages`` is executed once, with the whole conversation. An older one knows
``.System``, ``.Prompt`` and ``.Response`` only: it is executed once for every turn, and the last
time cut after ``.Response``, so that the model goes on from there. With a suffix the template is
executed directly, for models that fill in the middle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from typing import Any, Final, Literal, Protocol

import msgspec
from msgspec import Struct

from llamaherd.messages import Message, Think, Tool
from llamaherd.prompt import go_exec, go_parse
from llamaherd.prompt.values import go_messages, go_tools

#: What a template adds to a model: calling tools, filling in the middle, thinking.
Capability = Literal["tools", "insert", "thinking"]


class Values(Struct, frozen=True):
    """What a template is rendered with: a conversation, or a gap to fill.

    With a ``suffix`` that is the gap between it and ``prompt``; messages and tools are then unused.
    """

    messages: Sequence[Message] = ()
    tools: Sequence[Tool] = ()
    prompt: str = ""
    suffix: str = ""
    think: Think = None


class SpecialTokens(Struct, frozen=True):
    """The texts of a vocabulary's first and last token.

    ``adds_bos`` says that tokenizing puts ``bos`` in front, so the text must not do it too.
    """

    bos: str = "<s>"
    eos: str = "</s>"
    adds_bos: bool = True


#: What most vocabularies of the SentencePiece kind have.
USUAL_TOKENS: Final = SpecialTokens()


class PromptTemplate(Protocol):
    """A template of either kind; immutable, so that threads and requests may share it."""

    @property
    def text(self) -> str:
        """The source."""

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    def __hash__(self) -> int: ...

    def render(self, values: Values) -> str:
        """The prompt.

        Raises ``TemplateError`` if the template fails on these values, ``TemplateRefusal`` if it
        says itself that it can't take them.
        """


def collate(messages: Sequence[Message]) -> list[Message]:
    """Neighbours of the same role become one message, their texts joined by a blank line.

    Results of tools stay apart: each belongs to a call of its own.
    """
    collated: list[Message] = []
    for role, group in groupby(messages, key=lambda message: message.role):
        neighbours = list(group)
        if role == "tool" or len(neighbours) == 1:
            collated.extend(neighbours)
        else:
            collated.append(_joined(neighbours))
    return collated


def _joined(messages: Sequence[Message]) -> Message:
    return msgspec.structs.replace(
        messages[0],
        content="\n\n".join(message.content for message in messages),
        thinking="\n\n".join(message.thinking for message in messages if message.thinking),
        images=list(chain.from_iterable(message.images for message in messages)),
        tool_calls=list(chain.from_iterable(message.tool_calls for message in messages)),
    )


#: The identifiers that show a capability of a Go template.
_CAPABILITIES: Final[dict[str, Capability]] = {
    "tools": "tools",
    "suffix": "insert",
    "thinking": "thinking",
}

_RESPONSE: Final = "{{ .Response }}"


class GoTemplate:
    """A template in Go's language; raises ``TemplateError`` if it doesn't parse."""

    def __init__(self, text: str) -> None:
        self.text = text
        tree = go_parse.parse(text)
        names = {name.lower() for name in go_parse.identifiers(tree)}
        if not names & {"messages", "response"}:
            tree = go_parse.parse(text + _RESPONSE)
        self.tree = tree
        self._opening = go_parse.cut_after_field(tree, "Response")
        self._takes_messages = "messages" in names
        self.capabilities = frozenset(
            capability for name, capability in _CAPABILITIES.items() if name in names
        )

    def render(self, values: Values) -> str:
        thinking = _thinking(values.think)
        if values.suffix:
            fill = {"Prompt": values.prompt, "Suffix": values.suffix, "Response": ""}
            return go_exec.execute(self.tree, fill | thinking)
        if self._takes_messages:
            return go_exec.execute(self.tree, _conversation(values) | thinking)
        *finished, last = _turns(values.messages)
        texts = [go_exec.execute(self.tree, turn | thinking) for turn in finished]
        texts.append(go_exec.execute(self._opening, last | thinking))
        return "".join(texts)


def _thinking(think: Think) -> dict[str, Any]:
    return {
        "Think": bool(think),
        "ThinkLevel": think if isinstance(think, str) else "",
        "IsThinkSet": think is not None,
    }


def _conversation(values: Values) -> dict[str, Any]:
    messages = collate(values.messages)
    system = [message.content for message in messages if message.role == "system"]
    return {
        "System": "\n\n".join(system),
        "Messages": go_messages(messages),
        "Tools": go_tools(values.tools),
        "Response": "",
    }


def _turns(messages: Sequence[Message]) -> Iterator[dict[str, Any]]:
    """The conversation as turns of system, prompt and response; the last may be unanswered.

    What would stand before or over something in its turn begins the next. There is no place for
    what tools said.
    """
    turn = dict.fromkeys(_FIELDS.values(), "")
    for message in collate([message for message in messages if message.role in _FIELDS]):
        field = _FIELDS[message.role]
        if any(list(turn.values())[list(turn).index(field) :]):
            yield turn
            turn = dict.fromkeys(turn, "")
        turn[field] = message.content
    yield turn


#: A turn's fields in their order, by the role whose text they take.
_FIELDS: Final = {"system": "System", "user": "Prompt", "assistant": "Response"}
