"""What clients of OpenAI's Responses API send to ``/v1/responses``.

It is translated into the chat requests of our own API. Fields that change nothing here (``user``,
``metadata``, ``service_tier``, …) are ignored but for being repeated in the answer, and of
``include`` whatever isn't about log-probabilities or encrypted thoughts.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from llamaherd.api import gojson
from llamaherd.api.fields import Fields
from llamaherd.api.openai_requests import EFFORTS
from llamaherd.api.requests import MAX_TOP_LOGPROBS, ChatRequest
from llamaherd.api.responses_items import Find, items_of, messages
from llamaherd.api.responses_objects import Response
from llamaherd.api.responses_tools import Toolset, read_tool_choice, read_tools
from llamaherd.errors import FieldError
from llamaherd.messages import Message
from llamaherd.options import check_options

#: What would change the answer and can't be done here.
_REFUSED: Final = ("background", "conversation", "prompt")

#: What a request includes to be told of the tokens of its texts.
_LOGPROBS: Final = "message.output_text.logprobs"

#: What a request includes to get thoughts in a form in which it may bring them back.
_ENCRYPTED: Final = "reasoning.encrypted_content"

#: The effort of a request that names none.
_UNSAID: Final = "unsaid"


class ResponseRequest(Struct, frozen=True):
    """``POST /v1/responses``. Models that can think do, unless the request is against it.

    ``chat`` has the messages that the input's ``items`` are, without the instructions. ``blank`` is
    the response with all that the request says. Thoughts are told as ``encrypted_content`` too if
    ``carries_thoughts``.
    """

    chat: ChatRequest
    items: list[Any]
    toolset: Toolset
    blank: Response
    carries_thoughts: bool = False

    def chat_after(self, earlier: list[Any]) -> ChatRequest:
        """The whole conversation, which these items of an earlier response begin.

        Raises ``BadRequest`` if there is none.
        """
        conversation = self.chat.messages
        if earlier:
            conversation = messages([*earlier, *self.items], len(earlier))
        if self.blank.instructions:
            conversation = [Message("system", self.blank.instructions), *conversation]
        if not conversation:
            raise FieldError("input: expected at least one item", "input")
        return msgspec.structs.replace(self.chat, messages=conversation)


def read_response(body: bytes, find: Find) -> ResponseRequest:
    """``find`` knows the items that the request only refers to.

    Raises ``BadRequest``, and what ``find`` raises.
    """
    fields = Fields(gojson.parse_body(body))
    for name in _REFUSED:
        if fields.get(name):
            raise FieldError(f"{name}: not supported", name, "unsupported_parameter")
    toolset = read_tools(fields)
    blank = _blank(fields, toolset)
    items = items_of(fields, find)
    included = fields.strings("include")
    options: dict[str, Any] = {"temperature": blank.temperature, "top_p": blank.top_p}
    if blank.max_output_tokens is not None:
        options["num_predict"] = blank.max_output_tokens
    effort = fields.object("reasoning").one_of("effort", EFFORTS, _UNSAID)
    chat = ChatRequest(
        model=blank.model,
        messages=messages(items),
        stream=fields.boolean("stream"),
        format=_format(fields.object("text")),
        tools=toolset.tools,
        tool_choice=read_tool_choice(fields),
        options=check_options(options),
        think=EFFORTS.get(effort, True),
        think_if_able=effort == _UNSAID,
        logprobs=_LOGPROBS in included,
        top_logprobs=blank.top_logprobs,
        truncate=blank.truncation == "auto",
        shift=False,
    )
    return ResponseRequest(chat, items, toolset, blank, carries_thoughts=_ENCRYPTED in included)


def _blank(fields: Fields, toolset: Toolset) -> Response:
    reasoning = fields.object("reasoning")
    temperature = fields.number("temperature", 0, 2)
    top_p = fields.number("top_p", 0, 1)
    choice = fields.get("tool_choice")
    return Response(
        model=fields.needed("model"),
        instructions=fields.string("instructions") or None,
        max_output_tokens=fields.integer("max_output_tokens", 1),
        metadata=_metadata(fields),
        parallel_tool_calls=fields.boolean("parallel_tool_calls", default=True),
        previous_response_id=fields.string("previous_response_id") or None,
        prompt_cache_key=fields.string("prompt_cache_key") or None,
        reasoning={name: reasoning.get(name) for name in ("effort", "summary")},
        safety_identifier=fields.string("safety_identifier") or None,
        store=fields.boolean("store", default=True),
        temperature=1.0 if temperature is None else temperature,
        text={"format": {"type": "text"}} | (fields.mapping("text") or {}),
        tool_choice="auto" if choice is None else choice,
        tools=toolset.given,
        top_logprobs=fields.integer("top_logprobs", 0, MAX_TOP_LOGPROBS) or 0,
        top_p=1.0 if top_p is None else top_p,
        truncation=fields.one_of("truncation", ("auto", "disabled"), "disabled"),
        user=fields.string("user") or None,
    )


def _metadata(fields: Fields) -> dict[str, str]:
    metadata = fields.object("metadata")
    return {name: metadata.text(name) for name in metadata.raw}


def _format(text: Fields) -> Any:
    """``ChatRequest.format`` for ``text.format``."""
    form = text.object("format")
    match form.one_of("type", ("text", "json_object", "json_schema"), "text"):
        case "json_object":
            return "json"
        case "json_schema":
            schema = form.mapping("schema")
            if schema is None:
                raise form.wrong("schema", "a JSON Schema object")
            return schema
    return None
