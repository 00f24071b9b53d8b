"""What clients of OpenAI's API send to ``/v1/chat/completions`` and ``/v1/completions``.

Both are translated into the requests of our own API. Fields that change nothing here (``user``,
``store``, ``metadata``, …) are ignored, as unknown ones are.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from llamaherd.api import gojson, openai_messages
from llamaherd.api.requests import ChatRequest, GenerateRequest, Think
from llamaherd.errors import BadRequest
from llamaherd.options import check_options

#: The most replies that one request may ask for, prompts times ``n``; OpenAI's limit for ``n``.
MAX_CHOICES: Final = 128

#: OpenAI's limits for a logit's bias, either way.
MAX_BIAS: Final = 100.0

_INT32_MAX: Final = 2**31 - 1

_EFFORTS: Final[dict[str, Think]] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}


class Delivery(Struct, frozen=True):
    """How many replies to each prompt there are, and how they come."""

    n: int = 1
    stream: bool = False
    include_usage: bool = False


class ChatCompletionRequest(Struct, frozen=True):
    """``POST /v1/chat/completions``: ``chat`` is run once for each choice."""

    chat: ChatRequest
    delivery: Delivery

    def choices(self) -> list[ChatRequest]:
        return [
            msgspec.structs.replace(self.chat, options=_reseeded(self.chat.options, index))
            for index in range(self.delivery.n)
        ]


class CompletionChoice(Struct, frozen=True):
    """One reply. ``tokens`` stand for the prompt if they aren't None."""

    generate: GenerateRequest
    tokens: list[int] | None = None


class CompletionRequest(Struct, frozen=True):
    """``POST /v1/completions``: ``n`` replies to each of ``prompts``, texts or tokens.

    With ``echo``, each reply begins with its prompt.
    """

    generate: GenerateRequest
    prompts: list[str | list[int]]
    delivery: Delivery
    echo: bool = False

    def choices(self) -> list[CompletionChoice]:
        """All replies in OpenAI's order: those to the first prompt, those to the second, …"""
        found = []
        for prompt in self.prompts:
            for index in range(self.delivery.n):
                options = _reseeded(self.generate.options, index)
                generate = msgspec.structs.replace(self.generate, options=options)
                if isinstance(prompt, str):
                    generate.prompt = prompt
                    found.append(CompletionChoice(generate))
                else:
                    found.append(CompletionChoice(generate, prompt))
        return found


def _reseeded(options: dict[str, Any], index: int) -> dict[str, Any]:
    """The options of one of several replies: the first is the one that comes without ``n``.

    A seed that the model sets must not make all replies the same, so -1 draws new ones.
    """
    if index == 0:
        return options
    seed = options.get("seed", -1)
    return options | {"seed": -1 if seed == -1 else (seed + index) % 2**32}


_STREAM_OPTIONS: Final = gojson.object_of({"include_usage": gojson.boolean}, "openai.StreamOptions")
_RESPONSE_FORMAT: Final = gojson.object_of(
    {
        "type": gojson.string,
        "json_schema": gojson.object_of({"schema": gojson.anything}, "openai.JsonSchema"),
    },
    "openai.ResponseFormat",
)
_SHARED: Final[dict[str, gojson.Reader]] = {
    "model": gojson.string,
    "stream": gojson.boolean,
    "stream_options": _STREAM_OPTIONS,
    "max_tokens": gojson.integer,
    "seed": gojson.integer,
    "stop": gojson.anything,
    "temperature": gojson.number,
    "top_p": gojson.number,
    "frequency_penalty": gojson.number,
    "presence_penalty": gojson.number,
    "logit_bias": gojson.map_of(gojson.number, "float64"),
    "n": gojson.integer,
    "logprobs": gojson.anything,
    "response_format": _RESPONSE_FORMAT,
}
_CHAT: Final = gojson.object_of(
    {
        **_SHARED,
        "messages": openai_messages.messages,
        "max_completion_tokens": gojson.integer,
        "top_logprobs": gojson.anything,
        "tools": openai_messages.tools,
        "tool_choice": gojson.anything,
        "reasoning_effort": gojson.string,
        "reasoning": gojson.object_of({"effort": gojson.string}, "openai.Reasoning"),
    },
    "openai.ChatCompletionRequest",
)
_COMPLETION: Final = gojson.object_of(
    {
        **_SHARED,
        "prompt": gojson.anything,
        "suffix": gojson.string,
        "echo": gojson.boolean,
        "best_of": gojson.integer,
    },
    "openai.CompletionRequest",
)


def read_chat_completion(body: bytes) -> ChatCompletionRequest:
    """Raises ``BadRequest`` or ``OptionError``."""
    given = _CHAT(gojson.parse_body(body), "")
    conversation = given.get("messages", [])
    if not conversation:
        raise BadRequest("[] is too short - 'messages'")
    return ChatCompletionRequest(
        ChatRequest(
            model=given.get("model", ""),
            messages=conversation,
            tools=openai_messages.chosen_tools(given.get("tools", []), given.get("tool_choice")),
            think=_think(given),
            **_common(given),
        ),
        _delivery(given),
    )


def read_completion(body: bytes) -> CompletionRequest:
    """Raises ``BadRequest`` or ``OptionError``."""
    given = _COMPLETION(gojson.parse_body(body), "")
    delivery = _delivery(given)
    if given.get("best_of", 1) > delivery.n:
        raise BadRequest("best_of: more replies than n are not supported, they can't be compared")
    prompts = _prompts(given.get("prompt", ""))
    if len(prompts) * delivery.n > MAX_CHOICES:
        raise BadRequest(f"prompt: with n there may be at most {MAX_CHOICES} replies in all")
    return CompletionRequest(
        GenerateRequest(
            model=given.get("model", ""), suffix=given.get("suffix", ""), **_common(given)
        ),
        prompts,
        delivery,
        echo=given.get("echo", False),
    )


def _common(given: dict[str, Any]) -> dict[str, Any]:
    """The fields that chat and generate requests share."""
    if given.get("logprobs", False) is not False or given.get("top_logprobs", 0) != 0:
        raise BadRequest("logprobs: log probabilities are not supported by this version")
    return {
        "stream": given.get("stream", False),
        "format": _format(given.get("response_format", {})),
        "options": _options(given),
        "logit_bias": _logit_bias(given.get("logit_bias", {})),
    }


def _delivery(given: dict[str, Any]) -> Delivery:
    n = given.get("n", 1)
    if not 1 <= n <= MAX_CHOICES:
        raise BadRequest(f"n: must be between 1 and {MAX_CHOICES}, not {n}")
    usage = given.get("stream_options", {}).get("include_usage", False)
    return Delivery(n, given.get("stream", False), usage)


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """Sampling as OpenAI has it: all of the distribution, unless the request says otherwise."""
    options: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0}
    for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty", "seed"):
        if name in given:
            options[name] = given[name]
    for name in ("max_tokens", "max_completion_tokens"):
        if name in given:
            limit = given[name]
            if not -2 <= limit <= _INT32_MAX:
                raise BadRequest(f"{name}: must be between -2 and {_INT32_MAX}, not {limit}")
            options["num_predict"] = limit
    match given.get("stop"):
        case str(stop):
            options["stop"] = [stop]
        case list(stops):
            options["stop"] = [stop for stop in stops if isinstance(stop, str)]
    return check_options(options)


def _format(given: dict[str, Any]) -> Any:
    """``ChatRequest.format`` for a ``response_format``."""
    match given:
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return schema
        case {"type": "json_schema"}:
            raise BadRequest("response_format.json_schema.schema: expected a JSON Schema object")
        case {"type": "json_object"}:
            return "json"
        case {"type": "text"} | {"type": ""}:
            return None
        case {"type": kind}:
            expected = "expected text, json_object or json_schema"
            raise BadRequest(f'response_format.type: {expected}, not "{kind}"')
    return None


def _logit_bias(given: dict[str, float]) -> dict[int, float]:
    bias = {}
    for token, value in given.items():
        if not (token.isascii() and token.isdecimal() and len(token) < 10):
            raise BadRequest(f'logit_bias: "{token}" is not the number of a token')
        if not abs(value) <= MAX_BIAS:
            raise BadRequest(
                f"logit_bias: must be between {-MAX_BIAS:g} and {MAX_BIAS:g}, not {value:g}"
            )
        bias[int(token)] = value
    return bias


def _think(given: dict[str, Any]) -> Think:
    effort = given.get("reasoning", {}).get("effort") or given.get("reasoning_effort", "")
    if effort not in ("", *_EFFORTS):
        known = ", ".join(f'"{name}"' for name in _EFFORTS)
        raise BadRequest(f"invalid reasoning value: '{effort}' (must be one of {known})")
    return _EFFORTS.get(effort)


def _prompts(value: Any) -> list[str | list[int]]:
    """A prompt or a list of them, each a text or the numbers of its tokens."""
    prompts = [value] if isinstance(value, str) or _are_tokens(value) else value
    if (
        isinstance(prompts, list)
        and prompts
        and all(isinstance(prompt, str) or _are_tokens(prompt) for prompt in prompts)
    ):
        return prompts
    raise BadRequest("prompt: expected a string, tokens, or an array of strings or of tokens")


def _are_tokens(value: Any) -> bool:
    """Whether this is a non-empty list of numbers that may be tokens."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(type(token) is int and 0 <= token <= _INT32_MAX for token in value)
    )


#: What reads the body of each path, to describe it.
BODIES: Final[dict[str, gojson.Reader]] = {
    "/v1/chat/completions": _CHAT,
    "/v1/completions": _COMPLETION,
}
