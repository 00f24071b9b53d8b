"""The commands of the program: one table of names, arguments, flags and help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from llamaherd.cli import commands
from llamaherd.cli.parsing import (
    PROGRAM,
    Command,
    CommandError,
    Flag,
    Program,
    at_least,
    exactly,
    switch,
)
from llamaherd.cli.session import Session
from llamaherd.config import VARIABLES
from llamaherd.errors import LlamaherdError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_SETTINGS: Final = [variable.name for variable in VARIABLES if variable.name != "NO_COLOR"]
_INSECURE: Final = "allow a registry without TLS"


def model_names(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """For the shell: the stored models that begin as the word does; none without a server."""
    from click.shell_completion import CompletionItem

    try:
        models = Session().client.models()
    except LlamaherdError:
        return []
    names = (str(model.get("name", "")) for model in models)
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.pass_context
def _overview(ctx: click.Context, version: bool) -> None:
    ctx.obj = Session()
    if ctx.invoked_subcommand is None:
        if version:
            commands.version(ctx.obj)
        else:
            click.echo(ctx.get_help())


def _help(session: Session, arguments: Sequence[str]) -> None:
    name = arguments[0] if arguments else ""
    context = click.Context(program, info_name=PROGRAM)
    command = program.get_command(context, name) if name else program
    if command is None:
        raise CommandError(f'unknown command "{name}" for "{PROGRAM}"')
    click.echo(command.get_help(click.Context(command, info_name=name, parent=context)))


program = Program(
    PROGRAM,
    callback=_overview,
    help="Run, keep and serve language models on this machine",
    params=[switch("-v", "--version", help="show the version")],
    invoke_without_command=True,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _command in (
    Command(
        "serve",
        commands.serve,
        usage="serve",
        summary="Start the server",
        arity=exactly(0),
        aliases=["start"],
        variables=_SETTINGS,
    ),
    Command(
        "create",
        commands.create,
        usage="create MODEL",
        summary="Make a model from a Modelfile",
        arity=exactly(1),
        flags=[
            Flag(
                "-f", "--file", default="", help='the Modelfile (default "Modelfile"; "-" is stdin)'
            ),
            Flag(
                "-q",
                "--quantize",
                default="",
                help="quantize the model to this level, such as q4_K_M",
            ),
        ],
    ),
    Command(
        "show",
        commands.show,
        usage="show MODEL",
        summary="Describe a model",
        arity=exactly(1),
        flags=[
            switch("--license", help="print only its licences"),
            switch("--modelfile", help="print only its Modelfile"),
            switch("--parameters", help="print only its parameters"),
            switch("--system", help="print only its system message"),
            switch("--template", help="print only its template"),
            switch("-v", "--verbose", help="add its metadata and tensors"),
        ],
        complete=model_names,
    ),
    Command(
        "run",
        commands.run,
        usage="run MODEL [PROMPT]",
        summary="Answer a prompt, or talk",
        arity=at_least(1),
        flags=[
            Flag("--format", default="", help='form of the reply: "json" or a JSON schema'),
            switch("--hidethinking", help="don't print what the model thinks"),
            switch("--insecure", help=_INSECURE),
            Flag("--keepalive", default="", help="how long the model stays loaded, such as 5m"),
            switch("--nowordwrap", help="don't break lines between words"),
            Flag(
                "--think",
                default=None,
                implied="true",
                help="let the model think: true, false, or high, medium, low, max",
            ),
            switch("--verbose", help="print timings after the reply"),
        ],
        variables=["OLLAMA_HOST", "OLLAMA_API_KEY", "OLLAMA_NOHISTORY", "NO_COLOR"],
        complete=model_names,
    ),
    Command(
        "stop",
        commands.stop,
        usage="stop MODEL",
        summary="Unload a model",
        arity=exactly(1),
        complete=model_names,
    ),
    Command(
        "pull",
        commands.pull,
        usage="pull MODEL",
        summary="Fetch a model from a registry",
        arity=exactly(1),
        flags=[switch("--insecure", help=_INSECURE)],
        complete=model_names,
    ),
    Command(
        "push",
        commands.push,
        usage="push MODEL",
        summary="Send a model to a registry",
        arity=exactly(1),
        flags=[switch("--insecure", help=_INSECURE)],
        complete=model_names,
    ),
    Command(
        "list",
        commands.list_models,
        usage="list",
        summary="List the stored models",
        arity=at_least(0),
        aliases=["ls"],
        complete=model_names,
    ),
    Command(
        "ps",
        commands.ps,
        usage="ps",
        summary="List the loaded models",
        arity=at_least(0),
        complete=model_names,
    ),
    Command(
        "cp",
        commands.copy,
        usage="cp SOURCE DESTINATION",
        summary="Copy a model",
        arity=exactly(2),
        complete=model_names,
    ),
    Command(
        "rm",
        commands.remove,
        usage="rm MODEL [MODEL...]",
        summary="Remove models",
        arity=at_least(1),
        complete=model_names,
    ),
    Command(
        "doctor",
        commands.doctor,
        usage="doctor",
        summary="Find out what is wrong on this machine",
        arity=exactly(0),
        flags=[switch("--json", help="print the findings as JSON")],
        variables=_SETTINGS,
    ),
    Command(
        "help",
        _help,
        usage="help [COMMAND]",
        summary="Explain a command",
        arity=at_least(0),
        variables=(),
    ),
):
    program.add_command(_command)
