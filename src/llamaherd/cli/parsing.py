"""Command-line syntax as people know it from Ollama: its flags, argument counts and errors.

Click parses; this module replaces click's wording, exit codes and help layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import click

from llamaherd.config import VARIABLES, Variable
from llamaherd.errors import BadRequest

PROGRAM: Final = "ollama"


class CommandError(BadRequest):
    """A command line that can't be obeyed."""


class ReaderGone(Exception):
    """Nobody reads the output any more, as in ``ollama list | head -1``."""


@dataclass(frozen=True, slots=True)
class Arity:
    """How many arguments a command takes; ``maximum`` None is any number."""

    minimum: int = 0
    maximum: int | None = None

    def check(self, count: int) -> None:
        if self.minimum == self.maximum != count:
            raise CommandError(f"accepts {self.minimum} arg(s), received {count}")
        if count < self.minimum:
            raise CommandError(f"requires at least {self.minimum} arg(s), only received {count}")


def exactly(count: int) -> Arity:
    return Arity(count, count)


def at_least(count: int) -> Arity:
    return Arity(count)


class Flag(click.Option):
    """An option; ``implied`` is its value when it is given without ``=value``."""

    def __init__(self, *declarations: str, implied: str | None = None, **settings: Any) -> None:
        super().__init__(declarations, **settings)
        self.implied = implied

    def spelling(self) -> str:
        """``-f, --file string``, with the long names of all flags aligned."""
        short = next((name + ", " for name in self.opts if not name.startswith("--")), " " * 4)
        long = next(name for name in self.opts if name.startswith("--"))
        value = "" if self.is_flag else f" {self.metavar or 'string'}"
        return f"{short}{long}{f'[={self.implied}]' if self.implied else value}"


def switch(*declarations: str, help: str) -> Flag:  # noqa: A002
    """A flag that is on or off."""
    return Flag(*declarations, is_flag=True, help=help)


class Command(click.Command):
    """A command whose arguments are counted, and whose flags may stand anywhere among them.

    The callback gets the session, the arguments as strings, and each flag by its name.
    """

    def __init__(
        self,
        name: str,
        callback: Callable[..., int | None],
        *,
        usage: str,
        summary: str,
        arity: Arity,
        flags: Sequence[Flag] = (),
        aliases: Sequence[str] = (),
        variables: Iterable[str] = ("OLLAMA_HOST", "OLLAMA_API_KEY"),
        complete: Callable[..., Any] | None = None,
    ) -> None:
        arguments = click.Argument(
            ["arguments"], nargs=-1, type=click.UNPROCESSED, shell_complete=complete
        )
        super().__init__(
            name,
            callback=click.pass_obj(callback),
            params=[arguments, *flags],
            help=summary,
            context_settings={"help_option_names": ["-h", "--help"]},
        )
        self.usage = usage
        self.arity = arity
        self.aliases = tuple(aliases)
        self.variables = frozenset(variables)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _cobra_wording():
            rest = super().parse_args(ctx, _normalised(args, self.params))
        if not ctx.resilient_parsing:
            self.arity.check(len(ctx.params["arguments"]))
        return rest

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f"{self.help}\n\nUsage:\n  {PROGRAM} {self.usage} [flags]\n")
        if self.aliases:
            formatter.write(f"\nAliases:\n  {', '.join((self.name or '', *self.aliases))}\n")
        formatter.write("\nFlags:\n" + _columns(_flag_rows(self, ctx)))
        if rows := [_variable_row(v) for v in VARIABLES if v.name in self.variables]:
            formatter.write("\nEnvironment Variables:\n" + _columns(rows))


class Program(click.Group):
    """The program itself: finds commands by name or alias and prints the overview."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _cobra_wording():
            return super().parse_args(ctx, _normalised(args, self.params))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # Click would make it exit code 1, as if the command had failed.
            raise ReaderGone from error

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for command in self.commands.values():
            if cmd_name == command.name or cmd_name in getattr(command, "aliases", ()):
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        command = self.get_command(ctx, args[0])
        if command is None and not ctx.resilient_parsing:
            raise CommandError(f'unknown command "{args[0]}" for "{PROGRAM}"')
        return command.name if command else None, command, args[1:]

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands = [(name, command.help or "") for name, command in self.commands.items()]
        formatter.write(f"{self.help}\n\nUsage:\n  {PROGRAM} [flags]\n  {PROGRAM} [command]\n")
        formatter.write("\nAvailable Commands:\n" + _columns(commands))
        formatter.write("\nFlags:\n" + _columns(_flag_rows(self, ctx)))
        formatter.write(f'\n"{PROGRAM} [command] --help" tells more about a command.\n')


def _normalised(args: list[str], params: Sequence[click.Parameter]) -> list[str]:
    """Flags in the one form that click reads.

    ``--think`` alone becomes ``--think=true``, as it never takes the next argument;
    ``--verbose=true`` becomes ``--verbose``, and ``--verbose=false`` disappears; ``-f=file``
    becomes ``-f file``.
    """
    flags = {name: flag for flag in params if isinstance(flag, Flag) for name in flag.opts}
    end = args.index("--") if "--" in args else len(args)
    result = []
    for argument in args[:end]:
        name, equals, value = argument.partition("=")
        flag = flags.get(name)
        if flag is not None and flag.implied is not None and not equals:
            result.append(f"{name}={flag.implied}")
        elif flag is not None and flag.is_flag and equals:
            result += [name] if _boolean(name, value) else []
        elif flag is not None and equals and not name.startswith("--"):
            result += [name, value]
        else:
            result.append(argument)
    return result + args[end:]


def _flag_rows(command: click.Command, ctx: click.Context) -> list[tuple[str, str]]:
    flags = [flag for flag in command.get_params(ctx) if isinstance(flag, Flag)]
    rows = [(flag.spelling(), flag.help or "") for flag in flags]
    rows.append(("-h, --help", "show this help"))
    return sorted(rows, key=lambda row: row[0].partition("--")[2])


def _variable_row(variable: Variable) -> tuple[str, str]:
    default = f"; default {variable.default}" if variable.default else ""
    return variable.name, variable.help + default


def _columns(rows: Sequence[tuple[str, str]]) -> str:
    left = max(len(first) for first, _ in rows)
    return "".join(f"  {first:{left}}   {second}\n" for first, second in rows)


def _boolean(flag: str, text: str) -> bool:
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise CommandError(f'invalid argument "{text}" for "{flag}" flag: expected true or false')


@contextmanager
def _cobra_wording() -> Iterator[None]:
    """Click's usage errors in the words that scripts around Ollama may match on."""
    try:
        yield
    except click.NoSuchOption as error:
        raise CommandError(_unknown_flag(error.option_name)) from error
    except click.BadOptionUsage as error:
        name = error.option_name
        what = name if name.startswith("--") else f"'{name[1:]}' in {name}"
        raise CommandError(f"flag needs an argument: {what}") from error
    except click.UsageError as error:
        raise CommandError(error.format_message()) from error


def _unknown_flag(name: str) -> str:
    if name.startswith("--"):
        return f"unknown flag: {name}"
    return f"unknown shorthand flag: '{name[1:2]}' in {name}"
