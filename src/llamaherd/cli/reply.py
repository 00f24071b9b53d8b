"""A model's reply as text for the terminal: word wrap, thinking, tool calls, timings. Pure."""

from __future__ import annotations

import json
from typing import Any, Final

from llamaherd.cli.formatting import cell_width, character_width
from llamaherd.client import Object
from llamaherd.duration import SECOND, format_duration

_GREY: Final = "\x1b[38;5;245m"
_BOLD: Final = "\x1b[1m"
_RESET: Final = "\x1b[0m"
_TAB: Final = 8


class WordWrapper:
    """Breaks lines between words while the words still arrive in pieces.

    Text is passed on at once. When a word turns out to cross the margin, what the terminal shows
    of it is erased and written again on the next line.
    """

    def __init__(self, width: int) -> None:
        self._limit = _usable(width)
        self._column = 0
        self._word = ""

    def resize(self, width: int) -> None:
        """What comes from now on is for a terminal of that width."""
        self._limit = _usable(width)
        if self._column > self._limit:
            # The terminal has broken the line itself, maybe within the word.
            self._column, self._word = self._column % width, ""

    def feed(self, text: str) -> str:
        return "".join(self._place(character) for character in text)

    def _place(self, character: str) -> str:
        if character in "\r\n":
            self._column, self._word = 0, ""
            return character
        if character in " \t":
            return self._blank(character)
        width = character_width(character)
        if self._column + width <= self._limit:
            self._column += width
            # A line may break between any two wide characters, as in Chinese or Japanese.
            self._word = "" if width == 2 else self._word + character
            return character
        return self._over_the_margin(character, width)

    def _blank(self, character: str) -> str:
        self._word = ""
        width = _TAB - self._column % _TAB if character == "\t" else 1
        if self._column + width > self._limit:
            self._column = 0
            return "\n"
        self._column += width
        return character

    def _over_the_margin(self, character: str, width: int) -> str:
        moved = "" if width == 2 else self._word
        moved_width = cell_width(moved)
        if moved_width == self._column:
            moved, moved_width = "", 0
        self._column = moved_width + width
        self._word = "" if width == 2 else moved + character
        erased = f"\x1b[{moved_width}D\x1b[K" if moved else ""
        return f"{erased}\n{moved}{character}"


def _usable(width: int) -> int:
    """The last column stays free: terminals differ in where a full line leaves the cursor."""
    return max(width - 1, 1)


class ReplyWriter:
    """Turns the pieces of a streamed reply into what is printed.

    ``wrap`` is the terminal's width or None; ``colour`` sets thinking off in grey.
    """

    def __init__(self, *, wrap: int | None, colour: bool, hide_thinking: bool) -> None:
        self._wrap = wrap
        self._colour = colour
        self._hide_thinking = hide_thinking
        self._wrapper = self._new_wrapper()
        self._thinking = False
        self._last = ""

    def feed(
        self, *, text: str = "", thinking: str = "", tool_calls: list[Any] | None = None
    ) -> str:
        output = ""
        if thinking and not self._hide_thinking:
            output += "" if self._thinking else self._begin_thinking()
            output += self._wrapped(thinking)
        if text or tool_calls:
            output += self._end_thinking() + self._wrapped(text)
        if tool_calls:
            output += self._calls(tool_calls)
        return output

    def end(self) -> str:
        """What a reply that ended, or was cut, while it still thought leaves to be put right."""
        return _RESET if self._thinking and self._colour else ""

    def resize(self, wrap: int | None) -> None:
        """The terminal's width changed."""
        if wrap == self._wrap:
            return
        self._wrap = wrap
        if wrap is not None and self._wrapper is not None:
            self._wrapper.resize(wrap)
        else:
            self._wrapper = self._new_wrapper()

    def _wrapped(self, text: str) -> str:
        self._last = text[-1:] or self._last
        return self._wrapper.feed(text) if self._wrapper else text

    def _new_wrapper(self) -> WordWrapper | None:
        return None if self._wrap is None else WordWrapper(self._wrap)

    def _begin_thinking(self) -> str:
        self._thinking = True
        return self._marker("Thinking...") + "\n" + (_GREY if self._colour else "")

    def _end_thinking(self) -> str:
        if not self._thinking:
            return ""
        self._thinking = False
        self._wrapper = self._new_wrapper()
        newline = "" if self._last == "\n" else "\n"
        return f"{newline}{self._marker('...done thinking.')}\n\n"

    def _calls(self, calls: list[Any]) -> str:
        """The command line offers no tools, so a call is shown for what it is."""
        functions = [call.get("function", {}) for call in calls]
        return "\n".join(
            self._marker(
                f"  The model called {function.get('name', '')}, which doesn't exist here: "
                + json.dumps(function.get("arguments", {}), ensure_ascii=False)
            )
            for function in functions
        )

    def _marker(self, text: str) -> str:
        return f"{_GREY}{_BOLD}{text}{_RESET}" if self._colour else text


def timings(last: Object) -> str:
    """The block that ``--verbose`` adds, from the last message of a stream."""
    lines = []
    for label, key in (("total duration", "total_duration"), ("load duration", "load_duration")):
        if last.get(key):
            lines.append((label, format_duration(last[key])))
    for label, key in (("prompt eval", "prompt_eval"), ("eval", "eval")):
        count, duration = last.get(f"{key}_count") or 0, last.get(f"{key}_duration") or 0
        if count:
            lines.append((f"{label} count", f"{count} token(s)"))
        if duration:
            lines.append((f"{label} duration", format_duration(duration)))
            lines.append((f"{label} rate", f"{count * SECOND / duration:.2f} tokens/s"))
    return "".join(f"{label + ':':21} {value}\n" for label, value in lines)
