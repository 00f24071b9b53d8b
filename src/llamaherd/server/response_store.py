"""Responses that clients may come back to, in memory and within bounds."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from llamaherd.errors import NotFound

#: What all stored responses may take together, in bytes of JSON.
CAPACITY: Final = 64 << 20


class ItemNotFound(NotFound):
    """An item that a request refers to is in none of the responses that are kept."""

    def __init__(self, item_id: str) -> None:
        super().__init__(
            f"Item with id '{item_id}' not found. Items of responses are kept unless `store` is "
            "false, and not for ever; send the item itself."
        )


class Stored(Struct, frozen=True):
    """A response, the conversation up to its end, and its own items by their ids, all as JSON.

    The conversation ends with these items.
    """

    response: bytes
    conversation: bytes
    output: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        output = sum(len(item_id) + len(item) for item_id, item in self.output.items())
        return len(self.response) + len(self.conversation) + output

    def items(self) -> list[Any]:
        """The items of the conversation, which the next request goes on with."""
        items: list[Any] = msgspec.json.decode(self.conversation)
        return items

    def input_items(self) -> list[dict[str, Any]]:
        """The items that the response is an answer to, those of earlier responses among them."""
        items = self.items()
        return items[: len(items) - len(self.output)]

    def item(self, item_id: str) -> dict[str, Any]:
        """One of the items of the response itself."""
        item: dict[str, Any] = msgspec.json.decode(self.output[item_id])
        return item


class ResponseStore:
    """The responses that were used last; the others go when there is no room.

    Threads may use it at the same time.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._size = 0
        self._stored: OrderedDict[str, Stored] = OrderedDict()
        self._home: dict[str, str] = {}
        self._lock = threading.Lock()

    def add(self, response_id: str, stored: Stored) -> None:
        """Keep a response; one that is larger than all there is room for isn't kept."""
        if stored.size > self._capacity:
            return
        with self._lock:
            self._stored[response_id] = stored
            self._home |= dict.fromkeys(stored.output, response_id)
            self._size += stored.size
            while self._size > self._capacity:
                self._remove(next(iter(self._stored)))

    def get(self, response_id: str) -> Stored:
        """Raises ``NotFound``."""
        with self._lock:
            return self._used(response_id)

    def item(self, item_id: str) -> dict[str, Any]:
        """An item of any of the responses. Raises ``ItemNotFound``."""
        with self._lock:
            home = self._home.get(item_id)
            if home is None:
                raise ItemNotFound(item_id)
            stored = self._used(home)
        return stored.item(item_id)

    def delete(self, response_id: str) -> None:
        """Raises ``NotFound``."""
        with self._lock:
            self._used(response_id)
            self._remove(response_id)

    def _used(self, response_id: str) -> Stored:
        stored = self._stored.get(response_id)
        if stored is None:
            raise NotFound(f"Response with id '{response_id}' not found.")
        self._stored.move_to_end(response_id)
        return stored

    def _remove(self, response_id: str) -> None:
        stored = self._stored.pop(response_id)
        self._size -= stored.size
        for item_id in stored.output:
            del self._home[item_id]
