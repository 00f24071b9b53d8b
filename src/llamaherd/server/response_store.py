"""Responses that clients may come back to, in memory and within bounds."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

import msgspec
from msgspec import Struct

from llamaherd.errors import NotFound

#: What all stored responses may take together, in bytes of JSON.
CAPACITY: Final = 64 << 20


class Stored(Struct, frozen=True):
    """A response with the conversation up to its end, both as JSON."""

    response: bytes
    conversation: bytes

    @property
    def size(self) -> int:
        return len(self.response) + len(self.conversation)

    def items(self) -> list[Any]:
        """The items of the conversation, which the next request goes on with."""
        items: list[Any] = msgspec.json.decode(self.conversation)
        return items


class ResponseStore:
    """The responses that were used last; the others go when there is no room."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._size = 0
        self._stored: OrderedDict[str, Stored] = OrderedDict()

    def add(self, response_id: str, response: bytes, conversation: bytes) -> None:
        """Keep a response; one that is larger than all there is room for isn't kept."""
        stored = Stored(response, conversation)
        if stored.size > self._capacity:
            return
        self._stored[response_id] = stored
        self._size += stored.size
        while self._size > self._capacity:
            _, oldest = self._stored.popitem(last=False)
            self._size -= oldest.size

    def get(self, response_id: str) -> Stored:
        """Raises ``NotFound``."""
        stored = self._stored.get(response_id)
        if stored is None:
            raise NotFound(f"Response with id '{response_id}' not found.")
        self._stored.move_to_end(response_id)
        return stored

    def delete(self, response_id: str) -> None:
        """Raises ``NotFound``."""
        self._size -= self.get(response_id).size
        del self._stored[response_id]
