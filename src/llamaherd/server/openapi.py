"""The OpenAPI document of the server, version 3.1 of the specification.

All of it comes from what the server itself works with: the bodies from the readers that read them,
the answers from the types that are written, the options from the table that checks them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from msgspec import Struct

from llamaherd.api.anthropic_replies import ErrorReply
from llamaherd.api.schema import Components, options_schema, schema_of
from llamaherd.server.operations import EVENTS, OPERATIONS, Operation
from llamaherd.server.refusals import ANTHROPIC
from llamaherd.version import __version__

_JSON: Final = "application/json"
_LINES: Final = "application/x-ndjson"

_DESCRIPTION: Final = """\
Ollama's API, and parts of OpenAI's and Anthropic's below /v1/. Names of fields count in any case,
but for responses and messages; null is as good as nothing, unknown fields are ignored. Answers in
lines (application/x-ndjson) have a JSON object of the schema in each line; an error after the first
line is a line too."""


class Error(Struct):
    """What went wrong, for people."""

    error: str


class LineError(Struct, omit_defaults=True):
    """An error within a stream; ``status`` where the request lacks something."""

    error: str
    status: int = 0


class OpenAIErrorBody(Struct):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(Struct):
    error: OpenAIErrorBody


@cache
def document() -> Mapping[str, Any]:
    """The whole document."""
    components = Components()
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        described = _described(operation, components)
        paths.setdefault(operation.path, {})[operation.method] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "llamaherd", "version": __version__, "description": _DESCRIPTION},
        "paths": paths,
        "security": [{}, {"bearer": []}, {"key": []}],
        "components": {
            "schemas": {**components.schemas, "Options": options_schema()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            },
        },
    }


def _described(operation: Operation, components: Components) -> dict[str, Any]:
    found: dict[str, Any] = {"summary": operation.summary}
    if operation.parameters or operation.query:
        found["parameters"] = [
            {"name": name, "in": place, "required": place == "path", "schema": schema}
            for place, named in (("path", operation.parameters), ("query", operation.query))
            for name, schema in named.items()
        ]
    if operation.body is not None:
        found["requestBody"] = {"required": True, "content": _body(operation)}
    found["responses"] = _responses(operation, components)
    return found


def _body(operation: Operation) -> dict[str, Any]:
    if isinstance(operation.body, str):
        return {operation.body: {}}
    assert operation.body is not None
    schema = dict(schema_of(operation.body))
    if operation.required:
        schema["required"] = list(operation.required)
    return {_JSON: {"schema": schema}}


def _responses(operation: Operation, components: Components) -> dict[str, Any]:
    content = _answer(operation, components)
    responses: dict[str, Any] = {
        str(status): {"description": text, **({"content": content} if content else {})}
        for status, text in operation.success.items()
    }
    refused = components.schema_of(_error_of(operation.path))
    errors = dict(operation.errors)
    if operation.body is not None:
        errors[413] = "The body is too large."
    if operation.path != "/":
        errors[401] = "No API key, or one that isn't known; only where keys are set."
        errors[403] = "The key is for inference only; or the Host or Origin is not allowed."
    for status, text in sorted(errors.items()):
        with_body = operation.method != "head"
        body = {"content": {_JSON: {"schema": refused}}} if with_body else {}
        responses[str(status)] = {"description": text, **body}
    return responses


def _error_of(path: str) -> type[Struct]:
    if path.startswith(ANTHROPIC):
        return ErrorReply
    return OpenAIError if path.startswith("/v1/") else Error


def _answer(operation: Operation, components: Components) -> dict[str, Any]:
    if operation.reply is None:
        return {}
    if isinstance(operation.reply, str):
        return {operation.reply: {"schema": {"type": "string"}}}
    schema = components.schema_of(operation.reply)
    content: dict[str, Any] = {_JSON: {"schema": schema}}
    if operation.lines:
        content[_LINES] = {"schema": {"anyOf": [schema, components.schema_of(LineError)]}}
    if operation.events:
        content[EVENTS] = {}
    return content
