"""What clients of Anthropic's API send to ``/v1/messages`` and its ``count_tokens``.

Both are translated into the chat requests of our own API. Fields that change nothing here
(``metadata``, ``cache_control``, ``service_tier``, …) are ignored, as unknown ones are.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from llamaherd.api import anthropic_messages, gojson
from llamaherd.api.fields import INT32_MAX, Fields
from llamaherd.api.requests import ChatRequest
from llamaherd.errors import BadRequest
from llamaherd.messages import Think, Tool, ToolChoice
from llamaherd.options import check_options

#: The smallest ``thinking.budget_tokens`` that Anthropic takes.
MIN_BUDGET: Final = 1024

#: What would change the answer and can't be done here.
_REFUSED: Final = ("compaction", "container", "mcp_servers")

_EFFORTS: Final[dict[str, Think]] = {
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}


class ThreadUnsupported(BadRequest):
    """The client wants its conversation to be held here; told so, it sends the whole of it."""

    def __init__(self) -> None:
        super().__init__("thread: not supported, send the full conversation without it")


class MessagesRequest(Struct, frozen=True):
    """``POST /v1/messages``.

    ``max_tokens`` and ``stops`` are among the options of ``chat`` too. Without ``show_thinking``
    the thoughts are left out of the answer, and only told that there were some.
    """

    chat: ChatRequest
    max_tokens: int
    stops: tuple[str, ...] = ()
    show_thinking: bool = True


def read_messages(body: bytes) -> MessagesRequest:
    """Raises ``BadRequest``."""
    fields = _fields(body)
    max_tokens = fields.integer("max_tokens", 0)
    if max_tokens is None:
        raise fields.wrong("max_tokens", f"an integer from 0 to {INT32_MAX}")
    chat = _chat(fields)
    budget = fields.object("thinking").integer("budget_tokens", MIN_BUDGET)
    if budget is not None and budget >= max_tokens:
        raise BadRequest("thinking.budget_tokens: must be smaller than max_tokens")
    stops = fields.strings("stop_sequences")
    given: dict[str, Any] = {
        "num_predict": max_tokens,
        "temperature": fields.number("temperature", 0, 1),
        "top_p": fields.number("top_p", 0, 1),
        "top_k": fields.integer("top_k", 0),
        "stop": stops or None,
    }
    chat.options = check_options({k: v for k, v in given.items() if v is not None})
    chat.stream = fields.boolean("stream")
    shown = fields.object("thinking").string("display") != "omitted"
    return MessagesRequest(chat, max_tokens, tuple(stops), shown)


def read_count_tokens(body: bytes) -> ChatRequest:
    """``POST /v1/messages/count_tokens``. Raises ``BadRequest``."""
    return _chat(_fields(body))


def _fields(body: bytes) -> Fields:
    return Fields(gojson.parse_body(body), index=".{}")


def _chat(fields: Fields) -> ChatRequest:
    """What decides about the prompt.

    A prompt that doesn't fit is an error, and so is the end of the context an end, as clients
    rather sum up a conversation themselves than have its beginning fall away.
    """
    if fields.get("thread"):
        raise ThreadUnsupported
    for name in _REFUSED:
        if fields.get(name):
            raise BadRequest(f"{name}: not supported")
    think = _think(fields)
    return ChatRequest(
        model=fields.needed("model"),
        messages=anthropic_messages.messages(fields),
        format=_format(fields),
        tools=[_tool(tool) for tool in fields.objects("tools")],
        tool_choice=_tool_choice(fields),
        think=think,
        think_if_able=bool(think),
        truncate=False,
        shift=False,
    )


def _think(fields: Fields) -> Think:
    """Nothing thinks unless it is asked to; the effort is known to models that have levels."""
    effort = fields.object("output_config").get("effort")
    if effort is not None:
        fields.object("output_config").one_of("effort", _EFFORTS)
    if fields.get("thinking") is None:
        return False
    thinking = fields.object("thinking")
    kind = thinking.one_of("type", ("enabled", "adaptive", "disabled"))
    thinking.one_of("display", ("summarized", "omitted"), "summarized")
    if kind == "disabled":
        return False
    if kind == "enabled" and thinking.integer("budget_tokens", MIN_BUDGET) is None:
        raise thinking.wrong("budget_tokens", f"an integer from {MIN_BUDGET} to {INT32_MAX}")
    return True if effort is None else _EFFORTS[effort]


def _format(fields: Fields) -> Any:
    """``ChatRequest.format`` for an ``output_config.format``, once called ``output_format``."""
    config = fields.object("output_config")
    if config.get("format") is not None:
        return _schema(config.object("format"))
    if fields.get("output_format") is not None:
        return _schema(fields.object("output_format"))
    return None


def _schema(wanted: Fields) -> dict[str, Any]:
    wanted.one_of("type", ("json_schema",))
    schema = wanted.mapping("schema")
    if schema is None:
        raise wanted.wrong("schema", "a JSON Schema object")
    return schema


def _tool(tool: Fields) -> Tool:
    """A tool of the client's; those that Anthropic's servers run, or know, nobody has here."""
    tool.one_of("type", ("custom",), "custom")
    schema = tool.mapping("input_schema")
    if schema is None:
        raise tool.wrong("input_schema", "a JSON Schema object")
    function: dict[str, Any] = {"name": tool.needed("name")}
    if description := tool.string("description"):
        function["description"] = description
    return Tool("function", function | {"parameters": schema})


def _tool_choice(fields: Fields) -> ToolChoice:
    if fields.get("tool_choice") is None:
        return ToolChoice()
    choice = fields.object("tool_choice")
    parallel = not choice.boolean("disable_parallel_tool_use")
    match choice.one_of("type", ("auto", "any", "tool", "none")):
        case "any":
            return ToolChoice("required", parallel=parallel)
        case "tool":
            return ToolChoice("required", (choice.needed("name"),), parallel=False)
        case "none":
            return ToolChoice("none")
    return ToolChoice(parallel=parallel)
