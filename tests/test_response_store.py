"""Responses are kept as long as there is room."""

from __future__ import annotations

import msgspec
import pytest

from llamaherd.errors import NotFound
from llamaherd.server.response_store import ItemNotFound, ResponseStore, Stored


def test_what_was_used_last_stays() -> None:
    store = ResponseStore(capacity=30)
    for name in ("a", "b"):
        store.add(name, Stored(b"response", b"[]"))
    assert store.get("a").items() == []
    store.add("c", Stored(b"response", b"[1]"))
    with pytest.raises(NotFound):
        store.get("b")
    assert (store.get("a").response, store.get("c").items()) == (b"response", [1])


def test_what_is_deleted_makes_room() -> None:
    store = ResponseStore(capacity=20)
    store.add("a", Stored(b"response", b"[]"))
    store.delete("a")
    for name in ("b", "c"):
        store.add(name, Stored(b"response", b"[]"))
    assert store.get("b") == store.get("c")
    with pytest.raises(NotFound):
        store.delete("a")


def test_what_has_no_room_at_all_drives_nothing_out() -> None:
    store = ResponseStore(capacity=20)
    store.add("a", Stored(b"response", b"[]"))
    store.add("b", Stored(b"response" * 3, b"[]"))
    assert store.get("a")
    with pytest.raises(NotFound):
        store.get("b")


def stored(*ids: str) -> Stored:
    items = {item_id: {"id": item_id} for item_id in ids}
    conversation = msgspec.json.encode([{"id": "asked"}, *items.values()])
    output = {item_id: msgspec.json.encode(item) for item_id, item in items.items()}
    return Stored(b"response", conversation, output)


def test_items_are_found_in_the_response_that_they_came_with() -> None:
    store = ResponseStore()
    store.add("a", stored("one", "two"))
    assert store.item("two") == {"id": "two"}
    assert store.get("a").input_items() == [{"id": "asked"}]
    with pytest.raises(ItemNotFound, match="'asked' not found"):
        store.item("asked")
    store.delete("a")
    with pytest.raises(ItemNotFound, match="'two' not found"):
        store.item("two")


def test_whose_items_are_asked_for_stays() -> None:
    sizes = [stored(name).size for name in "abc"]
    store = ResponseStore(capacity=sum(sizes[:2]))
    for name in "ab":
        store.add(f"resp_{name}", stored(name))
    assert store.item("a")
    store.add("resp_c", stored("c"))
    assert [store.item(name)["id"] for name in "ac"] == ["a", "c"]
    with pytest.raises(ItemNotFound):
        store.item("b")
