"""Lists that come in pages, as OpenAI's and Anthropic's clients ask for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from msgspec import Struct

from llamaherd.api.fields import Fields

T = TypeVar("T")


class Page(Struct, Generic[T], frozen=True):
    """Some neighbours of a list; ``has_more`` says that it goes on in the direction of reading."""

    items: Sequence[T]
    has_more: bool


class Paging(Struct, frozen=True):
    """How a list is paged: the parameters for where to begin, and how many there may be in a page.

    ``after`` names the item before the page, ``before`` the one that follows it.
    """

    after: str
    default: int
    most: int
    before: str | None = None

    def page(self, query: Fields, items: Sequence[T], id_of: Callable[[T], str]) -> Page[T]:
        """The page that a query asks for. Raises ``BadRequest``."""
        limit = self._limit(query)
        after = _place(query, self.after, items, id_of)
        before = None if self.before is None else _place(query, self.before, items, id_of)
        between = items[0 if after is None else after + 1 : before]
        backward = before is not None and after is None
        chosen = between[-limit:] if backward else between[:limit]
        return Page(chosen, len(between) > limit)

    def _limit(self, query: Fields) -> int:
        given = query.string("limit") or str(self.default)
        if given.isascii() and given.isdecimal() and len(given) < 6:
            limit = int(given)
            if 1 <= limit <= self.most:
                return limit
        raise query.wrong("limit", f"an integer from 1 to {self.most}")


def _place(query: Fields, name: str, items: Sequence[T], id_of: Callable[[T], str]) -> int | None:
    wanted = query.string(name)
    if not wanted:
        return None
    for place, item in enumerate(items):
        if id_of(item) == wanted:
            return place
    raise query.wrong(name, "the id of something in the list")
