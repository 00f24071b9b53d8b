"""The state of a conversation, and the requests that follow from it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from llamaherd.cli.images import can_see
from llamaherd.cli.thinking import think_by_default
from llamaherd.client import Object
from llamaherd.create.request import parse_parameter
from llamaherd.messages import Think
from llamaherd.store.names import Name


@dataclass(slots=True)
class Conversation:
    """What was said, to which model, and how it is to answer.

    ``sees`` is whether the model takes images. ``stored`` are the messages that it begins with: the
    server puts them before ``messages``. ``think`` is None where it can't; with ``think_is_chosen``
    the user said what it is. ``system`` is the session's own system message, empty if it has none.
    """

    model: str
    sees: bool = False
    stored: Sequence[Object] = ()
    format: Any = None
    keep_alive: Any = None
    think: Think = None
    think_is_chosen: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    system: str = ""
    messages: list[Object] = field(default_factory=list)

    # --- requests ---------------------------------------------------------------------------

    def load_request(self) -> Object:
        """Has the model loaded as it will be used, which also tells whether it can be."""
        return self._request()

    def chat_request(self) -> Object:
        request = self._request() | {"messages": self.messages}
        return request if self.format is None else request | {"format": self.format}

    def create_request(self, name: str) -> Object:
        """A model that goes on from here.

        Messages replace those of the model that it is made from, so they are all sent. A system
        message that they begin with is left out, as the new model has it anyway.
        """
        request: Object = {"model": name, "from": self.model}
        if self.system:
            request["system"] = self.system
        if self.options:
            request["parameters"] = self.options
        if said := self._to_save():
            request["messages"] = [*self.stored, *said]
        return request

    def saved_as(self, name: str) -> None:
        """If that is the very model, it begins with what was said, so that isn't sent again."""
        if Name.parse(name).key == Name.parse(self.model).key:
            self.stored = [*self.stored, *self._to_save()]
            self.messages = []

    def _to_save(self) -> list[Object]:
        is_led = self.system and self.messages[:1] == [_system_message(self.system)]
        return self.messages[1:] if is_led else self.messages

    def _request(self) -> Object:
        request: Object = {"model": self.model}
        if self.keep_alive is not None:
            request["keep_alive"] = self.keep_alive
        if self.think is not None:
            request["think"] = self.think
        if self.options:
            request["options"] = self.options
        return request

    # --- what is said -----------------------------------------------------------------------

    def ask(self, text: str, images: Sequence[str] = ()) -> None:
        """``images`` are in base64."""
        message: Object = {"role": "user", "content": text}
        self.messages.append(message | {"images": list(images)} if images else message)

    def take_back(self) -> None:
        """Forget the last message, which could not be answered."""
        self.messages.pop()

    def answer(self, text: str) -> None:
        """The model's reply; one that was stopped before it said anything is none."""
        if text:
            self.messages.append({"role": "assistant", "content": text})

    # --- changes ----------------------------------------------------------------------------

    def clear(self) -> None:
        """Forget what was said; a system message stays."""
        self.messages = [_system_message(self.system)] if self.system else []

    def set_system(self, text: str) -> None:
        """From here on; another one that nobody has said anything to yet is replaced."""
        self.system = text
        if self.messages and self.messages[-1]["role"] == "system":
            self.messages.pop()
        self.messages.append(_system_message(text))

    def set_parameter(self, name: str, values: Sequence[str]) -> None:
        """``values`` as the user wrote them; all but ``stop`` have one.

        Raises ``BadRequest`` for a parameter that isn't known or can't have this value.
        """
        value = parse_parameter(name, values[0])
        self.options[name] = list(values) if isinstance(value, list) else value

    def set_think(self, think: Think) -> None:
        self.think, self.think_is_chosen = think, True

    def with_model(self, model: str, information: Mapping[str, Any]) -> Self:
        """A new conversation with another model, of which ``information`` tells; parameters,
        format and the choice whether to think are kept."""
        think = self.think if self.think_is_chosen else think_by_default(information)
        stored = information.get("messages") or ()
        return replace(
            self,
            model=model,
            sees=can_see(information),
            stored=stored,
            think=think,
            system="",
            messages=[],
        )


def _system_message(text: str) -> Object:
    return {"role": "system", "content": text}
