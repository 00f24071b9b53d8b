"""What a model may be called, and how a name is filled in, shown and turned into a path."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.errors import InvalidName
from llamaherd.store.names import Name


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("tiny", "registry.ollama.ai/library/tiny:latest"),
        ("tiny:7b-v2.6-q6_K", "registry.ollama.ai/library/tiny:7b-v2.6-q6_K"),
        ("me/tiny", "registry.ollama.ai/me/tiny:latest"),
        ("example.com/me/tiny:v1", "example.com/me/tiny:v1"),
        ("localhost:5000/me/tiny", "localhost:5000/me/tiny:latest"),
        ("http://localhost:5000/me/tiny:v1", "localhost:5000/me/tiny:v1"),
        ("https://example.com/me/tiny", "example.com/me/tiny:latest"),
        ("_why/_the/_lucky:_stiff", "_why/_the/_lucky:_stiff"),
        ("registry.ollama.ai/library/tiny:latest", "registry.ollama.ai/library/tiny:latest"),
        ("Tiny:Q4", "registry.ollama.ai/library/Tiny:Q4"),
        ("h/n/m..v2:t", "h/n/m..v2:t"),
        (f"{'h' * 350}/{'n' * 80}/{'m' * 80}:{'t' * 80}",) * 2,
    ],
)
def test_missing_parts_are_filled_in(text: str, full: str) -> None:
    assert Name.parse(text).full == full
    assert Name.parse(text).given == text


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "bad name", "tiny:", ":v1", "/tiny", "me/", "//", "a//b", "a/b/c/d", "a:b:c"),
        *(".", "..", "../../etc/passwd", "a/../b", "me/..", "/etc/passwd", "~/tiny", "./tiny"),
        *("-tiny", ".tiny", "tiny:-v", "-me/tiny", "m.e/tiny", "a:b/me:x/tiny", "host/a:b/tiny"),
        *("tiny\0", "tiny\n", "tiny\\x", "tïny", "tiny*", "http://tiny", "ftp://h/n/m", "http://"),
        *("m" * 81, f"tiny:{'t' * 81}", f"{'n' * 81}/tiny", f"{'h' * 351}/n/m", "x" * 100_000),
    ],
)
def test_what_could_lead_elsewhere_is_no_name(text: str) -> None:
    with pytest.raises(InvalidName, match=r"^invalid model name$"):
        Name.parse(text)


def test_a_digest_is_refused_and_named_as_the_reason() -> None:
    with pytest.raises(InvalidName, match=r"^invalid model name: a digest \('@'\)"):
        Name.parse(f"tiny@sha256:{'0' * 64}")


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("registry.ollama.ai/library/tiny:latest", "tiny:latest"),
        ("Registry.Ollama.ai/Library/tiny", "tiny:latest"),
        ("registry.ollama.ai/me/tiny:v1", "me/tiny:v1"),
        ("example.com/library/tiny:latest", "example.com/library/tiny:latest"),
    ],
)
def test_people_see_the_short_form(text: str, short: str) -> None:
    assert Name.parse(text).short == str(Name.parse(text)) == short


def test_each_part_is_a_folder_on_the_way_to_the_manifest() -> None:
    assert Name.parse("localhost:5000/me/tiny:v1").path == PurePosixPath(
        "localhost:5000", "me", "tiny", "v1"
    )


def test_case_counts_for_equality_but_not_for_the_key() -> None:
    assert Name.parse("Tiny") != Name.parse("tiny")
    assert Name.parse("Tiny").key == Name.parse("tiny").key
    assert Name.parse("tiny") == Name.parse("registry.ollama.ai/library/tiny:latest")


@given(st.text(alphabet="aZ0._-:/@\\ é\0", max_size=30))
@settings(max_examples=300, deadline=None)
def test_a_valid_name_has_safe_parts_and_reads_back(text: str) -> None:
    try:
        name = Name.parse(text)
    except InvalidName:
        return
    assert all(part not in ("", ".", "..") and "/" not in part for part in name.parts)
    assert Name.parse(name.full) == Name.parse(name.short) == name
