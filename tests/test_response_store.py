"""Responses are kept as long as there is room."""

from __future__ import annotations

import pytest

from llamaherd.errors import NotFound
from llamaherd.server.response_store import ResponseStore


def test_what_was_used_last_stays() -> None:
    store = ResponseStore(capacity=30)
    for name in ("a", "b"):
        store.add(name, b"response", b"[]")
    assert store.get("a").items() == []
    store.add("c", b"response", b"[1]")
    with pytest.raises(NotFound):
        store.get("b")
    assert (store.get("a").response, store.get("c").items()) == (b"response", [1])


def test_what_is_deleted_makes_room() -> None:
    store = ResponseStore(capacity=20)
    store.add("a", b"response", b"[]")
    store.delete("a")
    for name in ("b", "c"):
        store.add(name, b"response", b"[]")
    assert store.get("b") == store.get("c")
    with pytest.raises(NotFound):
        store.delete("a")


def test_what_has_no_room_at_all_drives_nothing_out() -> None:
    store = ResponseStore(capacity=20)
    store.add("a", b"response", b"[]")
    store.add("b", b"response" * 3, b"[]")
    assert store.get("a")
    with pytest.raises(NotFound):
        store.get("b")
