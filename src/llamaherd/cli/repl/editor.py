"""Reading lines from a person, with editing and a history, by prompt_toolkit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from llamaherd.cli.repl.history import HistoryFile
from llamaherd.errors import StoreError

PROMPT: Final = ">>> "
#: Before the lines of a message but the first.
MORE_PROMPT: Final = "... "

_PLACEHOLDER: Final = "Send a message (/? for help)"
_MORE_PLACEHOLDER: Final = 'Use """ to end multi-line input'
_TAB: Final = " " * 8


class KeptHistory(History):
    """What was typed before, from the file, and what is typed now, to the file if ``keeps``.

    ``complaint`` says why the file can't be used; then the history lasts as long as the program.
    """

    def __init__(self, file: HistoryFile, *, keeps: bool) -> None:
        super().__init__()
        self.keeps = keeps
        self.complaint = ""
        self._file = file

    def load_history_strings(self) -> Iterable[str]:
        try:
            return reversed(self._file.lines())
        except StoreError as error:
            self._give_up(error)
            return ()

    def store_string(self, string: str) -> None:
        if not self.keeps:
            return
        try:
            self._file.add(string)
        except StoreError as error:
            self._give_up(error)

    def _give_up(self, error: StoreError) -> None:
        self.keeps = False
        self.complaint = f"Warning: what is typed is not kept: {error.message}"


class Editor:
    """``history`` may be switched at any time."""

    def __init__(self, history: KeptHistory) -> None:
        self.history = history
        self._session: PromptSession[str] = PromptSession(
            history=history,
            key_bindings=_keys(),
            prompt_continuation=MORE_PROMPT,
            enable_suspend=True,
        )

    def read(self, *, more: bool = False) -> str:
        """What the user enters, pasted text with its lines; ``more`` of a message that was begun.

        Raises ``KeyboardInterrupt`` for Ctrl-C and ``EOFError`` for Ctrl-D in an empty line.
        """
        hint = _MORE_PLACEHOLDER if more else _PLACEHOLDER
        return self._session.prompt(
            MORE_PROMPT if more else PROMPT, placeholder=lambda: _placeholder(hint)
        )


def _placeholder(hint: str) -> FormattedText:
    """Only while the user may type: it must not stay behind when the line is done."""
    return FormattedText() if get_app().is_done else FormattedText([("fg:ansibrightblack", hint)])


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("tab")
    def _indent(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text(_TAB)

    return keys
