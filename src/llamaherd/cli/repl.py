"""The prompt loop of ``ollama run`` in a terminal: type, read the reply, go on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.formatted_text import FormattedText

from llamaherd.cli.display import Spinner
from llamaherd.cli.reply import ReplyWriter
from llamaherd.cli.run import ReplyStyle, print_reply
from llamaherd.client import Client, Object
from llamaherd.errors import LlamaherdError

PROMPT: Final = ">>> "
HELP: Final = """\
Commands:
  /bye            Leave
  /?, /help       This help

Ctrl + c stops a reply, Ctrl + d leaves.
"""
_PLACEHOLDER: Final = FormattedText([("fg:ansibrightblack", "Send a message (/? for help)")])


def converse(client: Client, request: Object, stored: list[Object], style: ReplyStyle) -> None:
    """Load the model, show its ``stored`` messages, and talk until the user leaves.

    ``request`` holds the fields that every request of the conversation has.
    """
    with Spinner():
        for _ in client.generate(request):
            pass
    _show_stored(stored, style)
    history: list[Object] = []
    for text in _lines():
        match text.strip():
            case "":
                continue
            case "/bye" | "/exit":
                return
            case "/?" | "/help":
                print(HELP)
            case command if command.startswith("/"):
                print(f"Unknown command '{command.split()[0]}'. Type /? for help")
            case _:
                _take_turn(client, request, history, text, style)


def _take_turn(
    client: Client, request: Object, history: list[Object], text: str, style: ReplyStyle
) -> None:
    """Ask and print; a reply that fails or is stopped leaves the conversation usable."""
    history.append({"role": "user", "content": text})
    try:
        reply = print_reply(client.chat(request | {"messages": history}), style)
    except LlamaherdError as error:
        history.pop()
        print(f"Error: {error.message}", file=sys.stderr)
        return
    history.append({"role": "assistant", "content": reply.text})


def _lines() -> Iterator[str]:
    """What the user types, until Ctrl-D."""
    session: PromptSession[str] = PromptSession(PROMPT, placeholder=_placeholder)
    while True:
        try:
            yield session.prompt()
        except KeyboardInterrupt:
            print("\nUse Ctrl + d or /bye to leave.\n")
        except EOFError:
            return


def _placeholder() -> FormattedText:
    """Only while the user may type: it must not stay behind when the line is done."""
    return FormattedText() if get_app().is_done else _PLACEHOLDER


def _show_stored(messages: list[Object], style: ReplyStyle) -> None:
    for message in messages:
        content = str(message.get("content") or "")
        if message.get("role") == "user":
            print(f"{PROMPT}{content}")
        elif message.get("role") == "assistant":
            writer = ReplyWriter(wrap=style.wrap, colour=style.colour, hide_thinking=True)
            print(writer.feed(text=content), end="\n\n")
