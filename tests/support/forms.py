"""Forms of replies, held against texts."""

from __future__ import annotations

from llamaherd.engine.compiler import Compiler
from llamaherd.grammar import Form
from tests.support.backend import FakeBackend


def derives(form: Form | None, text: str) -> bool:
    """Whether the whole text is of this form; one that isn't is refused before its end."""
    assert form is not None
    matcher = Compiler(FakeBackend()).matcher(form)
    return all(map(matcher.consume_token, text.encode())) and matcher.is_accepting()
