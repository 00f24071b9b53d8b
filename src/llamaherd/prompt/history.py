"""Earlier calls for templates that don't show them.

The chat templates of LFM 2 and of Granite 3.3 tell a model of its tools but not of what it called,
so that it would read results of calls that it never made. What they show is a message's text; so
the call becomes part of that, as the model wrote it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from llamaherd.errors import FormatError
from llamaherd.grammar import Exactly, Form, Grammar, InOrder, OneOf
from llamaherd.messages import Message, ToolCall
from llamaherd.prompt.parsers.recognise import hides_calls, recognise_writing
from llamaherd.prompt.parsers.writing import Signature, Writing
from llamaherd.prompt.template import PromptTemplate


def shown_messages(template: PromptTemplate, messages: Sequence[Message]) -> list[Message]:
    """The messages with their calls in what the template shows. The last is left to be answered."""
    if not any(message.tool_calls for message in messages[:-1]) or not hides_calls(template):
        return list(messages)
    writing = recognise_writing(template)
    if writing is None:
        return list(messages)
    return [*(_with_text(message, writing) for message in messages[:-1]), messages[-1]]


def _with_text(message: Message, writing: Writing) -> Message:
    if not message.tool_calls:
        return message
    calls = writing.separator.join(_written(call, writing) for call in message.tool_calls)
    texts = (message.content, f"{writing.opening}{calls}{writing.closing}")
    content = "\n".join(text for text in texts if text)
    return msgspec.structs.replace(message, content=content, tool_calls=[])


def _written(call: ToolCall, writing: Writing) -> str:
    """A call in the model's way or, if its arguments can't be written so, as plain JSON."""
    name, arguments = call.function.name, call.function.arguments
    made = {
        "type": "object",
        "properties": {key: {"const": value} for key, value in arguments.items()},
        "required": list(arguments),
    }
    try:
        return _only_text(writing.call(Signature(name, made, name)))
    except FormatError:
        return json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)


def _only_text(form: Form) -> str:
    """The text of a form that has one. Raises ``FormatError`` for any other."""
    match form:
        case Exactly(text):
            return text
        case InOrder(parts):
            return "".join(map(_only_text, parts))
        case OneOf((part,)):
            return _only_text(part)
        case Grammar("schema", text):
            return json.dumps(_only_value(json.loads(text)), ensure_ascii=False)
    raise FormatError("a call that was made can be written in one way alone")


def _only_value(schema: Mapping[str, Any]) -> Any:
    if "const" in schema:
        return schema["const"]
    return {name: _only_value(part) for name, part in schema["properties"].items()}
