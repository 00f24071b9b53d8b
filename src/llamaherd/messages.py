"""What a conversation is made of, independent of any wire dialect or template."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import dropwhile
from typing import Any, Final, Literal

from msgspec import Struct, field

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")

#: Where an image stands in a message that says so itself.
IMAGE_PLACE: Final = "[img]"

#: Whether to think: not said, yes or no, or how much, one of ``THINKING_LEVELS``.
Think = bool | str | None

#: How much a model may be asked to think; which of them it knows is for its template to say.
THINKING_LEVELS: Final = ("high", "medium", "low", "max")


class ToolCallFunction(Struct, omit_defaults=True):
    name: str
    arguments: dict[str, Any]
    index: int = 0


class ToolCall(Struct, omit_defaults=True):
    function: ToolCallFunction
    id: str = ""


class Message(Struct, omit_defaults=True):
    """One turn. ``images`` are decoded bytes; ``tool_name`` names the tool whose result this is."""

    role: str
    content: str = ""
    thinking: str = ""
    images: list[bytes] = field(default_factory=list)
    tool_calls: list[ToolCall] = field(default_factory=list)
    tool_name: str = ""
    tool_call_id: str = ""


def composed(parts: Sequence[str | bytes], between: str) -> tuple[str, list[bytes]]:
    """Content and images of a message that is written as texts and images in an order.

    Images stand in front where nothing else is said; the others get their place in the content.
    """
    images = [part for part in parts if isinstance(part, bytes)]
    rest = dropwhile(lambda part: isinstance(part, bytes), parts)
    return between.join(part if isinstance(part, str) else IMAGE_PLACE for part in rest), images


class Tool(Struct, omit_defaults=True):
    """A tool definition as the client sent it: ``function`` is the JSON object in its order."""

    type: str
    function: dict[str, Any]


class ToolChoice(Struct, frozen=True):
    """Which of a request's tools the model may call, and whether it must.

    ``mode`` "auto" leaves it to the model, "none" offers it no tools, "required" has it call one at
    least. ``names`` are the tools that it is offered, empty for all. ``parallel`` False lets a
    reply have no more than one call. Names of tools that aren't there, and "required" where there
    are no tools, are refused when the request is run.
    """

    mode: Literal["auto", "none", "required"] = "auto"
    names: tuple[str, ...] = ()
    parallel: bool = True
