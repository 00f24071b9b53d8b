"""Text leaves whole, and never past a stop string, however the tokens cut it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.engine.stopping import ReplyText


def run(pieces: list[bytes], stops: list[str]) -> tuple[list[str], ReplyText]:
    """What each piece gives, then what the end gives."""
    reply = ReplyText(stops)
    texts = []
    for piece in pieces:
        texts.append(reply.push(piece))
        if reply.stopped:
            break
    texts.append(reply.finish())
    return texts, reply


def test_without_stops_text_passes_through() -> None:
    assert run([b"Once", b" upon"], [])[0] == ["Once", " upon", ""]


def test_a_character_leaves_only_when_it_is_whole() -> None:
    camel = "🐪".encode()
    assert run([camel[:1], camel[1:3], camel[3:]], [])[0] == ["", "", "🐪", ""]


def test_bytes_that_never_become_a_character_are_replaced_at_the_end() -> None:
    assert run([b"a", b"\xf0\x9f"], [])[0] == ["a", "", "\N{REPLACEMENT CHARACTER}"]


def test_what_may_become_a_stop_string_is_held_back() -> None:
    texts, reply = run([b"Hi", b" U", b"se", b"ful"], ["User:"])
    assert texts == ["Hi", " ", "", "Useful", ""]
    assert not reply.stopped


def test_held_text_is_given_at_the_end() -> None:
    assert run([b"see Us"], ["User:"])[0] == ["see ", "Us"]


def test_text_is_cut_exactly_at_a_stop_string_across_tokens() -> None:
    texts, reply = run([b"ok\nUs", b"er", b": never seen"], ["User:"])
    assert "".join(texts) == "ok\n"
    assert reply.stopped
    assert reply.excess == len(b"User: never seen")


def test_what_is_pushed_after_a_stop_string_is_in_excess_too() -> None:
    reply = ReplyText(["#"])
    assert [reply.push(piece) for piece in (b"a#b", b"cd")] == ["a", ""]
    assert reply.excess == len(b"#bcd")


def test_a_stop_string_inside_a_token_that_ends_in_half_a_character() -> None:
    texts, reply = run([b"ab." + "é".encode()[:1]], ["."])
    assert "".join(texts) == "ab"
    assert reply.excess == 2


@pytest.mark.parametrize(
    ("text", "stops", "kept", "stop"),
    [
        ("xabcd", ["abcd", "bc"], "xa", "bc"),  # "bc" is complete first
        ("xabcd", ["abc", "bc"], "x", "abc"),  # both at once: the one that began first
        ("aab", ["ab", "aab"], "", "aab"),
        ("ababac", ["abac"], "ab", "abac"),
        ("日本語。次", ["。"], "日本語", "。"),
        ("abc", ["bd"], "abc", ""),
    ],
)
def test_overlapping_stop_strings(text: str, stops: list[str], kept: str, stop: str) -> None:
    for size in range(1, len(text.encode()) + 1):
        raw = text.encode()
        pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
        texts, reply = run(pieces, stops)
        assert ("".join(texts), reply.stop) == (kept, stop)


def test_an_empty_stop_string_is_none() -> None:
    assert "".join(run([b"abc"], [""])[0]) == "abc"


def expected(data: bytes, stops: list[str]) -> str:
    """The definition: the text up to the stop string that is completed first."""
    text = data.decode("utf-8", "replace")
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    return text[: min(ends)[1]] if ends else text


LETTERS = "ab.é🐪"


@settings(deadline=None, max_examples=200)
@given(
    pieces=st.lists(
        st.one_of(st.text(LETTERS, max_size=4).map(str.encode), st.binary(max_size=3)), max_size=12
    ),
    stops=st.lists(st.text(LETTERS, min_size=1, max_size=4), max_size=3),
)
def test_the_cutting_into_tokens_makes_no_difference(pieces: list[bytes], stops: list[str]) -> None:
    texts, _ = run(pieces, stops)
    assert "".join(texts) == expected(b"".join(pieces), stops)
