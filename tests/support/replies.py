"""Replies as a model writes them, piece by piece, and what is read out of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from llamaherd.events import Text, Thinking, ToolCalls
from llamaherd.messages import Tool, ToolCall

Part = Text | Thinking | ToolCalls


class Parser(Protocol):
    def feed(self, text: str) -> Iterable[Part]: ...

    def finish(self) -> Iterable[Part]: ...


def tool(name: str, **properties: Any) -> Tool:
    """A tool whose parameters have these types or schemas."""
    schemas = {
        key: {"type": value} if isinstance(value, str) else value
        for key, value in properties.items()
    }
    parameters = {"type": "object", "properties": schemas}
    return Tool("function", {"name": name, "description": name, "parameters": parameters})


WEATHER = tool("get_weather", city="string", days="integer")
TIME = tool("get_time")


#: What families have single tokens for.
CALL_TAGS = [
    *("<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
    *("<|tool_call|>", "<|/tool_call|>", "<|tool_call>", "<tool_call|>"),
    *("<|START_ACTION|>", "<|END_ACTION|>", "<|tools_prefix|>", "<|tools_suffix|>", '<|"|>'),
    *("<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"),
    *("<｜tool▁calls▁end｜>", "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
    *("<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"),
    *("<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "</parameter>"),
    *("<|open|>", "<|close|>", "<|sep|>", "<|function_call|>", "<|message_sep|>", "]<]minimax[>["),
]


def in_pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def parts(parser: Parser, pieces: Iterable[str]) -> Iterator[Part]:
    for piece in pieces:
        yield from parser.feed(piece)
    yield from parser.finish()


def summary(found: Iterable[Part]) -> list[Any]:
    """Text as it is, thinking as ``("thinks", text)``, calls as ``(name, arguments)``.

    Neighbours of a kind are joined: how a text is cut into events means nothing.
    """
    result: list[Any] = []
    for part in found:
        match part, result[-1] if result else None:
            case ToolCalls(calls), _:
                result += [(call.function.name, call.function.arguments) for call in calls]
            case Text(text), str(before):
                result[-1] = before + text
            case Text(text), _:
                result.append(text)
            case Thinking(text), ("thinks", str(before)):
                result[-1] = ("thinks", before + text)
            case Thinking(text), _:
                result.append(("thinks", text))
    return result


def calls_in(found: Iterable[Part]) -> list[ToolCall]:
    return [call for part in found if isinstance(part, ToolCalls) for call in part.calls]
