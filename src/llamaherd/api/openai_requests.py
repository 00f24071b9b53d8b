"""What clients of OpenAI's API send to ``/v1/chat/completions`` and ``/v1/completions``.

Both are translated into the requests of our own API. Fields that change nothing here (``user``,
``store``, ``metadata``, …) are ignored, as unknown ones are.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from llamaherd.api import gojson, openai_messages
from llamaherd.api.requests import MAX_TOP_LOGPROBS, ChatRequest, GenerateRequest
from llamaherd.api.tokens import are_tokens
from llamaherd.api.tool_choice import chosen, read_choice
from llamaherd.errors import FieldError, OptionError
from llamaherd.messages import Think
from llamaherd.options import check_option

#: The most replies that one request may ask for, prompts times ``n``; OpenAI's limit for ``n``.
MAX_CHOICES: Final = 128

#: OpenAI's limit for ``best_of``.
MAX_BEST_OF: Final = 20

#: OpenAI's limits for a logit's bias, either way.
MAX_BIAS: Final = 100.0

_INT32_MAX: Final = 2**31 - 1

EFFORTS: Final[dict[str, Think]] = {
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

    They are the best of ``best_of`` that are written. With ``echo``, each reply begins with its
    prompt. ``logprobs`` is how many alternatives are told with each token, None tells nothing.
    With both, the prompt is ``scored``: its tokens are told too.
    """

    generate: GenerateRequest
    prompts: list[str | list[int]]
    delivery: Delivery
    best_of: int = 1
    echo: bool = False
    logprobs: int | None = None

    @property
    def scored(self) -> bool:
        return self.echo and self.logprobs is not None

    def candidates(self) -> list[list[CompletionChoice]]:
        """All replies to each prompt."""
        found = []
        for prompt in self.prompts:
            choices = []
            for index in range(self.best_of):
                options = _reseeded(self.generate.options, index)
                generate = msgspec.structs.replace(self.generate, options=options)
                if isinstance(prompt, str):
                    generate.prompt = prompt
                    choices.append(CompletionChoice(generate))
                else:
                    choices.append(CompletionChoice(generate, prompt))
            found.append(choices)
        return found


def _reseeded(options: dict[str, Any], index: int) -> dict[str, Any]:
    """The options of one of several replies: the first is the one that comes without ``n``.

    A seed that the model sets must not make all replies the same, so -1 draws new ones.
    """
    if index == 0:
        return options
    seed = options.get("seed", -1)
    return options | {"seed": -1 if seed == -1 else (seed + index) % 2**32}


_ALTERNATIVES: Final = {"type": "integer", "minimum": 0, "maximum": MAX_TOP_LOGPROBS}


@gojson.described({"anyOf": [_ALTERNATIVES, {"const": False}]})
def _text_logprobs(value: Any, path: str) -> int | None:
    if value is False:
        return None
    if value is True:
        raise _refusal("logprobs", "expected how many alternatives to tell, not true")
    return _within("logprobs", gojson.integer(value, path), 0, MAX_TOP_LOGPROBS)


@gojson.described(_ALTERNATIVES)
def _top_logprobs(value: Any, path: str) -> int:
    return _within("top_logprobs", gojson.integer(value, path), 0, MAX_TOP_LOGPROBS)


def _within(field: str, value: int, low: int, high: int) -> int:
    if low <= value <= high:
        return value
    bound = "below_min" if value < low else "above_max"
    raise FieldError(
        f"{field}: must be between {low} and {high}, not {value}", field, f"integer_{bound}_value"
    )


def _refusal(field: str, problem: str, code: str = "invalid_value") -> FieldError:
    return FieldError(f"{field}: {problem}", field, code)


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
    "response_format": _RESPONSE_FORMAT,
}
#: Fields of chat completions that would change the answer, and the values that ask for nothing.
_UNSUPPORTED: Final[dict[str, tuple[Any, ...]]] = {
    "audio": (),
    "function_call": ("none",),
    "functions": ([],),
    "modalities": ([], ["text"]),
    "web_search_options": (),
}
_CHAT: Final = gojson.object_of(
    {
        **_SHARED,
        "messages": openai_messages.messages,
        "max_completion_tokens": gojson.integer,
        "logprobs": gojson.boolean,
        "top_logprobs": _top_logprobs,
        "tools": openai_messages.tools,
        "tool_choice": read_choice,
        "parallel_tool_calls": gojson.boolean,
        "reasoning_effort": gojson.string,
        "reasoning": gojson.object_of({"effort": gojson.string}, "openai.Reasoning"),
        **dict.fromkeys(_UNSUPPORTED, gojson.anything),
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
        "logprobs": _text_logprobs,
    },
    "openai.CompletionRequest",
)


def read_chat_completion(body: bytes) -> ChatCompletionRequest:
    """Raises ``BadRequest``."""
    given = _CHAT(gojson.parse_body(body), "")
    conversation = given.get("messages", [])
    if not conversation:
        raise FieldError("[] is too short - 'messages'", "messages", "empty_array")
    for field, harmless in _UNSUPPORTED.items():
        if field in given and given[field] not in harmless:
            raise _refusal(field, "is not supported", "unsupported_parameter")
    top_logprobs = given.get("top_logprobs", 0)
    if top_logprobs and not given.get("logprobs"):
        raise _refusal("top_logprobs", "is allowed only if logprobs is true")
    return ChatCompletionRequest(
        ChatRequest(
            model=given.get("model", ""),
            messages=conversation,
            tools=given.get("tools", []),
            tool_choice=chosen(given),
            think=_think(given),
            logprobs=given.get("logprobs", False),
            top_logprobs=top_logprobs,
            **_common(given),
        ),
        _delivery(given),
    )


def read_completion(body: bytes) -> CompletionRequest:
    """Raises ``BadRequest``."""
    given = _COMPLETION(gojson.parse_body(body), "")
    delivery = _delivery(given)
    best_of = _best_of(given, delivery)
    prompts = _prompts(given.get("prompt", ""))
    if len(prompts) * best_of > MAX_CHOICES:
        raise _refusal("prompt", f"there may be at most {MAX_CHOICES} replies to all prompts")
    logprobs = given.get("logprobs")
    if logprobs is not None and given.get("echo") and given.get("suffix"):
        raise _refusal("suffix", "can't be had with logprobs of an echoed prompt")
    return CompletionRequest(
        GenerateRequest(
            model=given.get("model", ""),
            suffix=given.get("suffix", ""),
            logprobs=logprobs is not None or best_of > delivery.n,
            top_logprobs=logprobs or 0,
            **_common(given),
        ),
        prompts,
        delivery,
        best_of,
        echo=given.get("echo", False),
        logprobs=logprobs,
    )


def _best_of(given: dict[str, Any], delivery: Delivery) -> int:
    """How many replies to write to each prompt."""
    if "best_of" not in given:
        return delivery.n
    best_of = given["best_of"]
    if best_of == delivery.n:
        return delivery.n
    if best_of < delivery.n:
        raise _refusal("best_of", f"must be at least n, which is {delivery.n}, not {best_of}")
    if delivery.stream:
        raise _refusal("best_of", "can't be more than n in a stream")
    return _within("best_of", best_of, 1, MAX_BEST_OF)


def _common(given: dict[str, Any]) -> dict[str, Any]:
    """The fields that chat and generate requests share."""
    return {
        "stream": given.get("stream", False),
        "format": _format(given.get("response_format", {})),
        "options": _options(given),
        "logit_bias": _logit_bias(given.get("logit_bias", {})),
    }


def _delivery(given: dict[str, Any]) -> Delivery:
    n = _within("n", given.get("n", 1), 1, MAX_CHOICES)
    usage = given.get("stream_options", {}).get("include_usage", False)
    return Delivery(n, given.get("stream", False), usage)


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """Sampling as OpenAI has it: all of the distribution, unless the request says otherwise."""
    options: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0}
    for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty", "seed"):
        if name in given:
            options[name] = _option(name, given[name])
    for name in ("max_tokens", "max_completion_tokens"):
        if name in given:
            options["num_predict"] = _within(name, given[name], -2, _INT32_MAX)
    match given.get("stop"):
        case str(stop):
            options["stop"] = (stop,)
        case list(stops):
            strings = [stop for stop in stops if isinstance(stop, str)]
            options["stop"] = _option("stop", strings)
    return options


def _option(name: str, value: Any) -> Any:
    try:
        return check_option(name, value)
    except OptionError as error:
        raise FieldError(error.message, name) from error


def _format(given: dict[str, Any]) -> Any:
    """``ChatRequest.format`` for a ``response_format``."""
    match given:
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return schema
        case {"type": "json_schema"}:
            raise _refusal("response_format.json_schema.schema", "expected a JSON Schema object")
        case {"type": "json_object"}:
            return "json"
        case {"type": "text"} | {"type": ""}:
            return None
        case {"type": kind}:
            expected = "expected text, json_object or json_schema"
            raise _refusal("response_format.type", f'{expected}, not "{kind}"')
    return None


def _logit_bias(given: dict[str, float]) -> dict[int, float]:
    bias = {}
    for token, value in given.items():
        if not (token.isascii() and token.isdecimal() and len(token) < 10):
            raise _refusal("logit_bias", f'"{token}" is not the number of a token')
        if not abs(value) <= MAX_BIAS:
            raise _refusal(
                "logit_bias", f"must be between {-MAX_BIAS:g} and {MAX_BIAS:g}, not {value:g}"
            )
        bias[int(token)] = value
    return bias


def _think(given: dict[str, Any]) -> Think:
    effort = given.get("reasoning", {}).get("effort") or given.get("reasoning_effort", "")
    if effort not in ("", *EFFORTS):
        known = ", ".join(f'"{name}"' for name in EFFORTS)
        raise FieldError(
            f"invalid reasoning value: '{effort}' (must be one of {known})", "reasoning_effort"
        )
    return EFFORTS.get(effort)


def _prompts(value: Any) -> list[str | list[int]]:
    """A prompt or a list of them, each a text or the numbers of its tokens."""
    prompts = [value] if isinstance(value, str) or are_tokens(value) else value
    if (
        isinstance(prompts, list)
        and prompts
        and all(isinstance(prompt, str) or are_tokens(prompt) for prompt in prompts)
    ):
        return prompts
    raise _refusal("prompt", "expected a string, tokens, or an array of strings or of tokens")


#: What reads the body of each path, to describe it.
BODIES: Final[dict[str, gojson.Reader]] = {
    "/v1/chat/completions": _CHAT,
    "/v1/completions": _COMPLETION,
}
