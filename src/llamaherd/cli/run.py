"""``ollama run``: one prompt from arguments and standard input, or a conversation."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

from llamaherd.cli.display import Spinner, follow, progress
from llamaherd.cli.exits import INTERRUPTED
from llamaherd.cli.images import can_see, take_images
from llamaherd.cli.parsing import CommandError
from llamaherd.cli.reply import ReplyWriter, timings
from llamaherd.cli.session import Session
from llamaherd.cli.streams import can_draw, read_all, wrapping_width
from llamaherd.cli.thinking import think_by_default, think_flag
from llamaherd.client import Client, Object, Stream
from llamaherd.duration import FOREVER, InvalidDuration, format_duration, keep_alive
from llamaherd.errors import LlamaherdError, ServerError


@dataclass(frozen=True, slots=True)
class ReplyStyle:
    """How replies are printed; ``wrap`` breaks lines between words where the terminal can."""

    wrap: bool
    colour: bool
    hide_thinking: bool
    verbose: bool

    @property
    def width(self) -> int | None:
        """Columns to wrap at: terminals are resized, so it is asked for every time."""
        return wrapping_width(sys.stdout) if self.wrap else None


class Reply(NamedTuple):
    """A reply that was printed: its text without what was thought, and whether Ctrl-C ended it."""

    text: str
    stopped: bool = False


def run(
    session: Session,
    arguments: Sequence[str],
    *,
    format: str,  # noqa: A002
    keepalive: str,
    think: str | None,
    hidethinking: bool,
    verbose: bool,
    nowordwrap: bool,
    insecure: bool,
) -> int:
    """Returns the exit code: ``INTERRUPTED`` if the user stopped the reply."""
    model, *words = arguments
    request: Object = {"model": model} | _request_options(format, keepalive, think)
    client = session.client
    client.heartbeat()
    if not sys.stdin.isatty():
        words = [text for text in [_standard_input()] if text] + words
    information = _show_or_pull(client, model, insecure=insecure)
    style = ReplyStyle(
        wrap=not nowordwrap,
        colour=can_draw(sys.stdout) and not session.settings.no_color,
        hide_thinking=hidethinking,
        verbose=verbose,
    )
    if not words and sys.stdin.isatty() and sys.stdout.isatty():
        from llamaherd.cli.repl.conversation import Conversation
        from llamaherd.cli.repl.loop import converse

        conversation = Conversation(think_is_chosen=think is not None, **request)
        conversation = conversation.with_model(model, information)
        converse(client, conversation, style, keeps_history=not session.settings.nohistory)
        return 0
    if think is None and (default := think_by_default(information)) is not None:
        request["think"] = default
    request |= _prompt(" ".join(words), information)
    reply = print_reply(client.generate(request), style)
    return INTERRUPTED if reply.stopped else 0


def _prompt(text: str, information: Object) -> Object:
    """The text and the images that it names, if the model can see any."""
    if not can_see(information):
        return {"prompt": text}
    said = take_images(text)
    for file in said.files:
        print(f"Added image '{file}'", file=sys.stderr)
    return {"prompt": said.text, "images": said.images}


def print_reply(events: Stream, style: ReplyStyle) -> Reply:
    """Print what arrives from generate or chat, and an empty line after it.

    Ctrl-C ends the reply and cancels the request. Raises ``ServerError`` for a stream that
    breaks off.
    """
    writer = ReplyWriter(wrap=style.width, colour=style.colour, hide_thinking=style.hide_thinking)
    text, last, begun = "", Object(), False
    with closing(events), Spinner() as spinner:
        try:
            for last in events:
                piece = _piece(last)
                text += piece["text"]
                writer.resize(style.width)
                if output := writer.feed(**piece):
                    begun = True
                    spinner.stop()
                    _write(output)
            if not last.get("done"):
                raise ServerError("the server ended the reply before it was complete")
        except LlamaherdError:
            # What went wrong stands in a line of its own.
            if begun and sys.stdout.isatty():
                _write("\n")
            raise
        except KeyboardInterrupt:
            if sys.stdout.isatty():
                _write("\n\n")
            return Reply(text, stopped=True)
        finally:
            spinner.stop()
            _write(writer.end())
    if last.get("done_reason") not in ("load", "unload"):
        _write("\n\n")
    if style.verbose:
        sys.stderr.write(timings(last))
    return Reply(text)


def _piece(event: Object) -> dict[str, Any]:
    """The new part of a reply, from either endpoint."""
    message = event.get("message") or event
    return {
        "text": message.get("content") or message.get("response") or "",
        "thinking": message.get("thinking") or "",
        "tool_calls": message.get("tool_calls") or [],
    }


def _write(text: str) -> None:
    if text:
        sys.stdout.write(text)
        sys.stdout.flush()


def _request_options(response_format: str, keepalive: str, think: str | None) -> Object:
    """The flags as fields of a request; raises ``CommandError`` for a value that can't be."""
    request: Object = {}
    if response_format:
        request["format"] = _format(response_format)
    if keepalive:
        try:
            nanoseconds = keep_alive(keepalive)
        except InvalidDuration as error:
            raise CommandError(str(error)) from error
        request["keep_alive"] = -1 if nanoseconds == FOREVER else format_duration(nanoseconds)
    if think is not None:
        request["think"] = think_flag(think)
    return request


def _format(text: str) -> Any:
    if text == "json":
        return text
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise CommandError(f'invalid format: expected "json" or a JSON schema ({error})') from error
    return schema


def _standard_input() -> str:
    return read_all(sys.stdin.buffer, "the input").decode("utf-8", "replace")


def _show_or_pull(client: Client, model: str, *, insecure: bool) -> Object:
    """What the server knows of the model, which it fetches first if it doesn't have it.

    A server without ``/api/pull`` has no JSON to say so; then the model is simply not there.
    """
    try:
        return client.show(model)
    except ServerError as error:
        if error.status != 404:
            raise
        missing = error
    try:
        with progress() as shown:
            follow(client.pull(model, insecure=insecure), shown)
    except ServerError as error:
        raise missing if error.message == "404 page not found" else error from None
    return client.show(model)
