"""The conversation itself: asks the person, obeys commands, asks the server, prints."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from llamaherd.cli.display import Silence, Spinner, follow
from llamaherd.cli.images import Illustrated, begins_with_image, take_images
from llamaherd.cli.listings import stored_models
from llamaherd.cli.parsing import CommandError
from llamaherd.cli.repl import commands, texts
from llamaherd.cli.repl.commands import Command
from llamaherd.cli.repl.conversation import Conversation
from llamaherd.cli.repl.editor import PROMPT, Editor, KeptHistory
from llamaherd.cli.repl.entries import CommandLine, Composer, Entry, Message, SystemMessage
from llamaherd.cli.repl.history import HistoryFile
from llamaherd.cli.repl.report import shown
from llamaherd.cli.reply import ReplyWriter
from llamaherd.cli.run import ReplyStyle, print_reply
from llamaherd.cli.thinking import think_by_default
from llamaherd.client import Client
from llamaherd.errors import BadRequest, LlamaherdError, ServerError
from llamaherd.store.show import go_quote

HISTORY: Final = "~/.ollama/history"


class Leaving(Exception):
    """The user has had enough."""


def converse(
    client: Client, conversation: Conversation, style: ReplyStyle, *, keeps_history: bool
) -> None:
    """Load the model, show its stored messages, and talk until the user leaves."""
    with Spinner():
        _load(client, conversation)
    _show_stored(conversation, style)
    history = KeptHistory(HistoryFile(_history_path()), keeps=keeps_history)
    _Loop(client, conversation, style, Editor(history)).run()


class _Loop:
    """What the user is told is printed to stdout, errors too: they belong to the conversation."""

    def __init__(
        self, client: Client, conversation: Conversation, style: ReplyStyle, editor: Editor
    ) -> None:
        self._client = client
        self._conversation = conversation
        self._style = style
        self._editor = editor
        self._composer = Composer()

    def run(self) -> None:
        """Until the user leaves. Whatever goes wrong, the conversation stays."""
        while True:
            try:
                entry = self._read()
                if entry is not None:
                    self._take(entry)
            except (EOFError, Leaving):
                return
            except KeyboardInterrupt:
                print()
            except LlamaherdError as error:
                print(f"error: {error.message}")

    def _read(self) -> Entry | None:
        try:
            text = self._editor.read(more=self._composer.is_open)
        except KeyboardInterrupt:
            print(texts.INTERRUPTED)
            self._composer.reset()
            return None
        finally:
            self._tell_complaint()
        return self._composer.feed(text)

    def _tell_complaint(self) -> None:
        history = self._editor.history
        if history.complaint:
            print(history.complaint)
            history.complaint = ""

    def _take(self, entry: Entry) -> None:
        match entry:
            case Message(text):
                self._ask(text)
            case SystemMessage(text):
                self._obey(commands.SetSystem(text))
            case CommandLine(line):
                sees = self._conversation.sees
                command = commands.parse(line, sees=sees)
                if isinstance(command, commands.Unknown) and sees and begins_with_image(line):
                    self._ask(line)
                else:
                    self._obey(command)

    # --- messages ---------------------------------------------------------------------------

    def _ask(self, text: str) -> None:
        conversation = self._conversation
        said = take_images(text) if conversation.sees else Illustrated(text)
        for file in said.files:
            print(f"Added image '{file}'")
        conversation.ask(said.text, said.images)
        try:
            reply = print_reply(self._client.chat(conversation.chat_request()), self._style)
        except BaseException:
            conversation.take_back()
            raise
        conversation.answer(reply.text)

    # --- commands ---------------------------------------------------------------------------

    def _obey(self, command: Command) -> None:
        match command:
            case commands.Leave():
                raise Leaving
            case commands.Explain(text):
                print(text, end="")
            case commands.Unknown(name):
                print(texts.unknown(name), end="")
            case commands.Clear():
                self._conversation.clear()
                print("Cleared session context")
            case commands.ListModels(prefix):
                models = self._client.models()
                print(stored_models(models, prefix, datetime.now(UTC)), end="")
            case commands.Load(model):
                self._switch(model)
            case commands.Save(model):
                self._save(model)
            case commands.Show(part):
                self._show(part)
            case _:
                self._set(command)

    def _switch(self, model: str) -> None:
        print(f"Loading model '{model}'")
        try:
            with Spinner():
                conversation = self._conversation.with_model(model, self._client.show(model))
                _load(self._client, conversation)
        except ServerError as error:
            if error.status != 404:
                raise
            print(f"Couldn't find model '{model}'")
            return
        self._conversation = conversation
        _show_stored(conversation, self._style)

    def _save(self, model: str) -> None:
        request = self._conversation.create_request(model)
        try:
            with Spinner():
                follow(self._client.create(request), Silence())
        except ServerError as error:
            if "invalid model name" not in error.message:
                raise
            print(f"error: The model name '{model}' is invalid")
            return
        self._conversation.saved_as(model)
        print(f"Created new model '{model}'")

    def _show(self, part: str) -> None:
        conversation = self._conversation
        system, options = conversation.system, conversation.options
        if part in ("info", "modelfile"):
            model = self._client.show(conversation.model, system=system, options=options)
        else:
            # What is the model's own is told apart from what is the session's.
            model = self._client.show(conversation.model)
        print(shown(part, model, system=system, options=options), end="")

    def _set(self, command: Command) -> None:
        conversation = self._conversation
        match command:
            case commands.SetSystem(text):
                conversation.set_system(text)
                print("Set system message.")
            case commands.SetParameter(name, values):
                try:
                    conversation.set_parameter(name, values)
                except BadRequest as error:
                    print(f"Couldn't set parameter: {go_quote(error.message)}")
                else:
                    print(f"Set parameter '{name}' to '{', '.join(values)}'")
            case commands.SetFormat(form):
                conversation.format = form
                print(f"Set format to '{form}' mode.")
            case commands.SetThink(level):
                self._set_think(level or True)
                print(f"Set 'think' mode to '{level}'." if level else "Set 'think' mode.")
            case commands.SetMode(mode):
                self._set_mode(mode)
            case _:
                raise AssertionError(command)

    def _set_mode(self, mode: str) -> None:
        match mode:
            case "history" | "nohistory":
                self._editor.history.keeps = mode == "history"
                return
            case "wordwrap" | "nowordwrap":
                self._style = replace(self._style, wrap=mode == "wordwrap")
            case "verbose" | "quiet":
                self._style = replace(self._style, verbose=mode == "verbose")
            case "nothink":
                self._set_think(False)
            case "noformat":
                self._conversation.format = None
                print("Disabled format.")
                return
        print(f"Set '{mode}' mode.")

    def _set_think(self, think: bool | str) -> None:
        model = self._conversation.model
        information = self._client.show(model)
        self._conversation.set_think(think)
        if think_by_default(information) is None:
            print(f"warning: model {go_quote(model)} does not support thinking output")


def _history_path() -> Path:
    try:
        return Path(HISTORY).expanduser()
    except RuntimeError as error:
        raise CommandError(f"{HISTORY}: the home folder is not known") from error


def _load(client: Client, conversation: Conversation) -> None:
    for _ in client.generate(conversation.load_request()):
        pass


def _show_stored(conversation: Conversation, style: ReplyStyle) -> None:
    for message in conversation.stored:
        content = str(message.get("content") or "")
        if message.get("role") == "user":
            print(f"{PROMPT}{content}")
        elif message.get("role") == "assistant":
            writer = ReplyWriter(wrap=style.width, colour=style.colour, hide_thinking=True)
            print(writer.feed(text=content), end="\n\n")
