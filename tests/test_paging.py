"""Lists come in pages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaherd.api.fields import Fields
from llamaherd.api.paging import Page, Paging
from llamaherd.errors import FieldError

PAGING = Paging(after="after_id", before="before_id", default=3, most=5)


def page(listed: str, **query: str) -> Page[str]:
    return PAGING.page(Fields(query), listed, str)


@pytest.mark.parametrize(
    ("query", "items", "has_more"),
    [
        ({}, "abc", True),
        ({"limit": "5"}, "abcde", True),
        ({"after_id": "c"}, "def", False),
        ({"after_id": "f"}, "", False),
        ({"before_id": "c"}, "ab", False),
        ({"before_id": "f"}, "cde", True),
        ({"after_id": "a", "before_id": "f"}, "bcd", True),
    ],
)
def test_pages(query: Any, items: str, has_more: bool) -> None:
    assert page("abcdef", **query) == Page(items, has_more)


@given(st.text("abcdefgh").map(lambda text: "".join(sorted(set(text)))), st.integers(1, 5))
def test_leafing_through_shows_everything_once(listed: str, limit: int) -> None:
    size = {"limit": str(limit)}
    shown = found = page(listed, **size)
    forward = "".join(shown.items)
    while found.has_more:
        found = page(listed, after_id=found.items[-1], **size)
        forward += "".join(found.items)
    assert forward == listed


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "6"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "1e1"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"after_id": "x"}, "after_id"),
        ({"before_id": "x"}, "before_id"),
    ],
)
def test_what_makes_no_sense(query: Any, field: str) -> None:
    with pytest.raises(FieldError) as caught:
        page("abc", **query)
    assert caught.value.field == field
