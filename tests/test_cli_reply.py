"""Replies as text: word wrap while words still grow, thinking set apart, timings."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.cli.formatting import cell_width
from llamaherd.cli.reply import ReplyWriter, WordWrapper, timings
from llamaherd.cli.run import ReplyStyle, print_reply
from llamaherd.client import Stream
from llamaherd.errors import ServerError


def screen(output: str) -> list[str]:
    """The lines that a terminal shows: text, line feeds, and the two sequences that wrap uses."""
    lines = [""]
    for part in re.findall(r"\x1b\[\d+D\x1b\[K|.|\n", output):
        if part == "\n":
            lines.append("")
        elif part.startswith("\x1b"):
            columns = int(part[2 : part.index("D")])
            kept = lines[-1]
            while columns > 0:
                columns -= cell_width(kept[-1])
                kept = kept[:-1]
            lines[-1] = kept
        else:
            lines[-1] += part
    return lines


def wrapped(width: int, *pieces: str) -> list[str]:
    wrapper = WordWrapper(width)
    lines = screen("".join(wrapper.feed(piece) for piece in pieces))
    return [line.rstrip(" ") for line in lines]


def test_a_word_that_crosses_the_margin_moves_to_the_next_line() -> None:
    assert wrapped(12, "Once upon a ti", "me there") == ["Once upon a", "time there"]


def test_a_word_longer_than_a_line_is_broken() -> None:
    assert wrapped(6, "abcdefghijkl") == ["abcde", "fghij", "kl"]


def test_a_line_breaks_between_wide_characters() -> None:
    assert wrapped(8, "日本語日本語") == ["日本語", "日本語"]


def test_lines_of_the_text_stay_lines() -> None:
    assert wrapped(20, "one\n\ntwo\n") == ["one", "", "two", ""]


def test_a_tab_takes_the_cursor_to_the_next_stop() -> None:
    assert wrapped(12, "ab\tcd ef") == ["ab\tcd", "ef"]


@settings(deadline=None, max_examples=60)
@given(st.text("ab c\n日é", max_size=80), st.integers(4, 20), st.integers(1, 5))
def test_wrapping_keeps_the_text_and_the_margin(text: str, width: int, step: int) -> None:
    whole = wrapped(width, text)
    assert whole == wrapped(width, *(text[i : i + step] for i in range(0, len(text), step)))
    assert all(cell_width(line) < width for line in whole)
    assert "".join("".join(whole).split()) == "".join(text.split())


def plain(*, hide_thinking: bool = False) -> ReplyWriter:
    return ReplyWriter(wrap=None, colour=False, hide_thinking=hide_thinking)


def test_thinking_is_framed() -> None:
    writer = plain()
    output = writer.feed(thinking="Hm") + writer.feed(thinking="m.") + writer.feed(text="Yes.")
    assert output == "Thinking...\nHmm.\n...done thinking.\n\nYes."


def test_thinking_that_ends_its_line_gets_no_empty_line() -> None:
    writer = plain()
    writer.feed(thinking="Hmm.\n")
    assert writer.feed(text="Yes.") == "...done thinking.\n\nYes."


def test_hidden_thinking_leaves_no_trace() -> None:
    writer = plain(hide_thinking=True)
    assert writer.feed(thinking="Hmm.") == ""
    assert writer.feed(text="Yes.") == "Yes."


def test_a_reply_cut_while_it_thinks_leaves_the_terminal_in_its_own_colour() -> None:
    writer = ReplyWriter(wrap=None, colour=True, hide_thinking=False)
    assert "\x1b[38" in writer.feed(thinking="Hm")
    assert writer.end() == "\x1b[0m"


def test_a_tool_call_is_shown_for_what_it_is() -> None:
    call = {"function": {"name": "weather", "arguments": {"city": "Köln"}}}
    assert plain().feed(tool_calls=[call]) == (
        '  The model called weather, which doesn\'t exist here: {"city": "Köln"}'
    )


def test_timings_of_a_whole_reply() -> None:
    last = {
        "total_duration": 1_234_567_891,
        "load_duration": 12_500_000,
        "prompt_eval_count": 26,
        "prompt_eval_duration": 130_000_000,
        "eval_count": 10,
        "eval_duration": 3_000_000_000,
    }
    assert timings(last) == (
        "total duration:       1.234567891s\n"
        "load duration:        12.5ms\n"
        "prompt eval count:    26 token(s)\n"
        "prompt eval duration: 130ms\n"
        "prompt eval rate:     200.00 tokens/s\n"
        "eval count:           10 token(s)\n"
        "eval duration:        3s\n"
        "eval rate:            3.33 tokens/s\n"
    )


@pytest.mark.parametrize("last", [{}, {"eval_count": None, "total_duration": 0}])
def test_timings_leave_out_what_was_not_measured(last: dict[str, int | None]) -> None:
    assert timings(last) == ""


def test_a_terminal_that_is_resized_meanwhile_is_wrapped_at_its_new_width() -> None:
    writer = ReplyWriter(wrap=20, colour=False, hide_thinking=True)
    output = writer.feed(text="one two three four ")
    writer.resize(12)
    output += writer.feed(text="five six seven eight")
    assert screen(output)[1:] == ["six seven ", "eight"]
    writer.resize(None)
    assert writer.feed(text=" nine ten eleven") == " nine ten eleven"


def test_what_ends_a_reply_in_the_middle_is_told_in_a_line_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> Stream:
        yield {"response": "Once upon"}
        raise ServerError("the runner died")

    style = ReplyStyle(wrap=True, colour=False, hide_thinking=False, verbose=False)
    for is_terminal, end in ((True, "\n"), (False, "")):
        monkeypatch.setenv("TERM", "dumb")
        monkeypatch.setattr("sys.stdout.isatty", lambda answer=is_terminal: answer)
        with pytest.raises(ServerError):
            print_reply(broken(), style)
        assert capsys.readouterr().out == "Once upon" + end
