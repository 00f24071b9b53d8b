"""What the models of the server know, and what they are asked."""

from __future__ import annotations

from typing import Any

from openai.types.chat import ChatCompletionMessageParam

#: Large enough that a reply without an end takes minutes.
CONTEXT = 8192
#: Keeps the model from ending its reply.
ENDLESS = {"2": -100}
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Once upon a time"}]
TOOLS: Any = [
    {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}},
    {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}},
]
