"""What clients of Ollama's own API send, and how it is read."""

from __future__ import annotations

import json
from typing import Any, Final

from msgspec import Struct, field

from llamaherd.api import gojson
from llamaherd.api.tool_choice import chosen, read_choice
from llamaherd.errors import BadRequest, FieldError, OptionError
from llamaherd.messages import (
    THINKING_LEVELS,
    Message,
    Think,
    Tool,
    ToolCall,
    ToolCallFunction,
    ToolChoice,
)
from llamaherd.options import check_options

#: The most alternatives that are told with a token, Ollama's limit and OpenAI's.
MAX_TOP_LOGPROBS: Final = 20


class GenerateRequest(Struct):
    """``POST /api/generate``; ``keep_alive`` in nanoseconds, None for the server's default.

    ``logit_bias`` is added to the logits of single tokens; only other dialects have it.
    ``top_logprobs`` are told with each token of the reply if there are ``logprobs`` at all.
    """

    model: str = ""
    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    context: list[int] = field(default_factory=list)
    stream: bool = True
    raw: bool = False
    format: Any = None
    keep_alive: int | None = None
    images: list[bytes] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    logit_bias: dict[int, float] = field(default_factory=dict)
    think: Think = None
    truncate: bool = True
    shift: bool = True
    logprobs: bool = False
    top_logprobs: int = 0
    debug_render_only: bool = False


class ChatRequest(Struct):
    """``POST /api/chat``; the fields are those of ``GenerateRequest``.

    ``tool_choice`` and ``parallel_tool_calls``, which becomes part of it, are an extension, read as
    in OpenAI's API. ``think_if_able`` has models that can't think answer without, not refuse; only
    other dialects have it.
    """

    model: str = ""
    messages: list[Message] = field(default_factory=list)
    stream: bool = True
    format: Any = None
    keep_alive: int | None = None
    tools: list[Tool] = field(default_factory=list)
    tool_choice: ToolChoice = ToolChoice()
    options: dict[str, Any] = field(default_factory=dict)
    logit_bias: dict[int, float] = field(default_factory=dict)
    think: Think = None
    think_if_able: bool = False
    truncate: bool = True
    shift: bool = True
    logprobs: bool = False
    top_logprobs: int = 0
    debug_render_only: bool = False


class ModelRequest(Struct):
    """A request that is about one model: show and delete; ``name`` is the older spelling."""

    model: str = ""
    verbose: bool = False
    system: str = ""
    options: dict[str, Any] = field(default_factory=dict)


class CopyRequest(Struct):
    source: str = ""
    destination: str = ""


class TransferRequest(Struct):
    """``POST /api/pull`` and ``/api/push``; ``insecure`` allows plain HTTP."""

    model: str = ""
    insecure: bool = False
    stream: bool = True


class CreateRequest(Struct):
    """``POST /api/create``; None where a field was not given."""

    model: str = ""
    stream: bool = True
    from_: str | None = None
    files: dict[str, str] | None = None
    adapters: dict[str, str] | None = None
    template: str | None = None
    license: list[str] | None = None
    system: str | None = None
    parameters: dict[str, Any] | None = None
    messages: list[Message] | None = None
    quantize: str | None = None


@gojson.described(
    {"anyOf": [{"type": "boolean"}, {"type": "string", "enum": list(THINKING_LEVELS)}]}
)
def _think(value: Any, path: str) -> Think:
    allowed = ", ".join([*(f'"{level}"' for level in THINKING_LEVELS), "true, or false"])
    match value:
        case bool():
            return value
        case str() if value in THINKING_LEVELS:
            return value
        case str():
            quoted = json.dumps(value, ensure_ascii=False)
            raise BadRequest(f"invalid think value: {quoted} (must be {allowed})")
    raise BadRequest(f"think must be a boolean or string ({allowed})")


_format: Final = gojson.described(
    {
        "anyOf": [
            {"type": "string", "enum": ["", "json"]},
            {
                "type": "object",
                "properties": {"grammar": {"type": "string"}},
                "required": ["grammar"],
                "additionalProperties": False,
                "description": "A grammar in llguidance's Lark dialect or llama.cpp's GBNF.",
            },
            {"type": "object", "description": "A JSON Schema."},
        ]
    }
)(gojson.anything)
_OPTIONS: Final = gojson.described({"$ref": "#/components/schemas/Options"})
read_options: Final = _OPTIONS(gojson.mapping)


@_OPTIONS
def read_checked_options(value: Any, path: str) -> dict[str, Any]:
    """For interfaces that Ollama hasn't: what is wrong with an option is wrong with the request."""
    options = gojson.mapping(value, path)
    try:
        check_options(options)
    except OptionError as error:
        raise FieldError(error.message, "options") from error
    return options


@gojson.described({"type": "integer", "minimum": 0, "maximum": MAX_TOP_LOGPROBS})
def _top_logprobs(value: Any, path: str) -> int:
    count = gojson.integer(value, path)
    if not 0 <= count <= MAX_TOP_LOGPROBS:
        raise BadRequest(f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}")
    return count


_TOOL_CALL: Final = gojson.object_of(
    {
        "id": gojson.string,
        "function": gojson.object_of(
            {"index": gojson.integer, "name": gojson.string, "arguments": gojson.mapping},
            "api.ToolCallFunction",
        ),
    },
    "api.ToolCall",
)
_MESSAGE: Final = gojson.object_of(
    {
        "role": gojson.string,
        "content": gojson.string,
        "thinking": gojson.string,
        "images": gojson.list_of(gojson.image, "api.ImageData"),
        "tool_calls": gojson.list_of(_TOOL_CALL, "api.ToolCall"),
        "tool_name": gojson.string,
        "tool_call_id": gojson.string,
    },
    "api.Message",
)
_MESSAGES: Final = gojson.list_of(_MESSAGE, "api.Message")
_TOOLS: Final = gojson.list_of(
    gojson.object_of({"type": gojson.string, "function": gojson.mapping}, "api.Tool"), "api.Tool"
)
_SHARED: Final[dict[str, gojson.Reader]] = {
    "model": gojson.string,
    "stream": gojson.boolean,
    "format": _format,
    "keep_alive": gojson.duration,
    "options": read_options,
    "think": _think,
    "truncate": gojson.boolean,
    "shift": gojson.boolean,
    "logprobs": gojson.boolean,
    "top_logprobs": _top_logprobs,
    "_debug_render_only": gojson.boolean,
}
_GENERATE: Final = gojson.object_of(
    {
        **_SHARED,
        "prompt": gojson.string,
        "suffix": gojson.string,
        "system": gojson.string,
        "template": gojson.string,
        "context": gojson.list_of(gojson.integer, "int"),
        "raw": gojson.boolean,
        "images": gojson.list_of(gojson.image, "api.ImageData"),
    },
    "api.GenerateRequest",
)
_CHAT: Final = gojson.object_of(
    {
        **_SHARED,
        "messages": _MESSAGES,
        "tools": _TOOLS,
        "tool_choice": read_choice,
        "parallel_tool_calls": gojson.boolean,
    },
    "api.ChatRequest",
)
_SHOW: Final = gojson.object_of(
    {
        "model": gojson.string,
        "name": gojson.string,
        "verbose": gojson.boolean,
        "system": gojson.string,
        "options": read_options,
    },
    "api.ShowRequest",
)
_DELETE: Final = gojson.object_of(
    {"model": gojson.string, "name": gojson.string}, "api.DeleteRequest"
)
_COPY: Final = gojson.object_of(
    {"source": gojson.string, "destination": gojson.string}, "api.CopyRequest"
)


_TRANSFER: Final = {
    "model": gojson.string,
    "name": gojson.string,
    "insecure": gojson.boolean,
    "stream": gojson.boolean,
}
_PULL: Final = gojson.object_of(_TRANSFER, "api.PullRequest")
_PUSH: Final = gojson.object_of(_TRANSFER, "api.PushRequest")


@gojson.described({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
def _license(value: Any, path: str) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise BadRequest("license must be a string or a list of strings")


_DIGESTS: Final = gojson.map_of(gojson.string, "string")


@gojson.described(
    {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "Digests of uploaded blobs by the names of the files in the model.",
    }
)
def _files(value: Any, path: str) -> dict[str, str]:
    """Digests by file name. A name is a path inside the model, as Go's ``fs.ValidPath`` has it."""
    files: dict[str, str] = _DIGESTS(value, path)
    if any(part in ("", ".", "..") for name in files for part in name.split("/")):
        raise BadRequest("file path must be relative")
    return files


_CREATE: Final = gojson.object_of(
    {
        "model": gojson.string,
        "name": gojson.string,
        "stream": gojson.boolean,
        "from": gojson.string,
        "files": _files,
        "adapters": _files,
        "template": gojson.string,
        "license": _license,
        "system": gojson.string,
        "parameters": read_options,
        "messages": _MESSAGES,
        "quantize": gojson.string,
        "quantization": gojson.string,
    },
    "api.CreateRequest",
)


def message_from(given: dict[str, Any]) -> Message:
    calls = [
        ToolCall(
            function=ToolCallFunction(
                name=call.get("function", {}).get("name", ""),
                arguments=call.get("function", {}).get("arguments", {}),
                index=call.get("function", {}).get("index", 0),
            ),
            id=call.get("id", ""),
        )
        for call in given.pop("tool_calls", ())
    ]
    return Message(role=given.pop("role", "").lower(), tool_calls=calls, **given)


def _shared(given: dict[str, Any]) -> dict[str, Any]:
    given["debug_render_only"] = given.pop("_debug_render_only", False)
    return given


def read_generate(body: bytes) -> GenerateRequest:
    return GenerateRequest(**_shared(_GENERATE(gojson.parse_body(body), "")))


def read_chat(body: bytes) -> ChatRequest:
    given = _shared(_CHAT(gojson.parse_body(body), ""))
    given["messages"] = [message_from(message) for message in given.get("messages", ())]
    given["tools"] = [
        Tool(type=tool.get("type", ""), function=tool.get("function", {}))
        for tool in given.get("tools", ())
    ]
    given["tool_choice"] = chosen(given)
    given.pop("parallel_tool_calls", None)
    return ChatRequest(**given)


def _with_older_name(given: dict[str, Any]) -> dict[str, Any]:
    name = given.pop("name", "")
    given["model"] = given.get("model") or name
    return given


def read_show(body: bytes) -> ModelRequest:
    return ModelRequest(**_with_older_name(_SHOW(gojson.parse_body(body), "")))


def read_delete(body: bytes) -> ModelRequest:
    return ModelRequest(**_with_older_name(_DELETE(gojson.parse_body(body), "")))


def read_copy(body: bytes) -> CopyRequest:
    return CopyRequest(**_COPY(gojson.parse_body(body), ""))


def read_pull(body: bytes) -> TransferRequest:
    return TransferRequest(**_with_older_name(_PULL(gojson.parse_body(body), "")))


def read_push(body: bytes) -> TransferRequest:
    return TransferRequest(**_with_older_name(_PUSH(gojson.parse_body(body), "")))


def read_create(body: bytes) -> CreateRequest:
    given = _with_older_name(_CREATE(gojson.parse_body(body), ""))
    if "quantization" in given:
        given.setdefault("quantize", given.pop("quantization"))
    if "from" in given:
        given["from_"] = given.pop("from")
    if "messages" in given:
        given["messages"] = [message_from(message) for message in given["messages"]]
    return CreateRequest(**given)


#: What reads the body of each path, to describe it.
BODIES: Final[dict[str, gojson.Reader]] = {
    "/api/generate": _GENERATE,
    "/api/chat": _CHAT,
    "/api/show": _SHOW,
    "/api/copy": _COPY,
    "/api/delete": _DELETE,
    "/api/create": _CREATE,
    "/api/pull": _PULL,
    "/api/push": _PUSH,
}
