"""JSON Schemas of what agents send, for the description of our interface.

They tell the fields of a request and their ranges. What a block, an item or a tool may be depends
on its type, and on more than that; the errors of the readers tell it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from llamaherd.api import gojson
from llamaherd.api.anthropic_requests import MIN_BUDGET
from llamaherd.api.fields import INT32_MAX
from llamaherd.api.openai_requests import EFFORTS
from llamaherd.api.requests import MAX_TOP_LOGPROBS

Schema = Mapping[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_OBJECT: Final[Schema] = {"type": "object"}
_OBJECTS: Final[Schema] = {"type": "array", "items": _OBJECT}
_TEXT_OR_OBJECTS: Final[Schema] = {"anyOf": [_TEXT, _OBJECTS]}
_FLAG: Final[Schema] = {"type": "boolean"}
_SHARE: Final[Schema] = {"type": "number", "minimum": 0, "maximum": 1}


def _count(low: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": INT32_MAX}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


_PROMPT: Final = {
    "model": _TEXT,
    "messages": {
        "type": "array",
        "minItems": 1,
        "items": _object(role={"enum": ["user", "assistant", "system"]}, content=_TEXT_OR_OBJECTS),
    },
    "system": _TEXT_OR_OBJECTS,
    "tools": _OBJECTS,
    "tool_choice": _object(
        type={"enum": ["auto", "any", "tool", "none"]}, name=_TEXT, disable_parallel_tool_use=_FLAG
    ),
    "thinking": _object(
        type={"enum": ["enabled", "adaptive", "disabled"]},
        budget_tokens=_count(MIN_BUDGET),
        display={"enum": ["summarized", "omitted"]},
    ),
    "output_format": _OBJECT,
    "output_config": _object(
        effort={"enum": ["low", "medium", "high", "xhigh", "max"]},
        format=_object(type={"const": "json_schema"}, schema=_OBJECT),
    ),
}
_MESSAGES: Final = _object(
    **_PROMPT,
    max_tokens=_count(0),
    stream=_FLAG,
    stop_sequences={"type": "array", "items": {"type": "string", "minLength": 1}},
    temperature=_SHARE,
    top_p=_SHARE,
    top_k=_count(0),
)
_RESPONSE: Final = _object(
    model=_TEXT,
    input=_TEXT_OR_OBJECTS,
    instructions=_TEXT,
    previous_response_id=_TEXT,
    tools=_OBJECTS,
    tool_choice={},
    parallel_tool_calls=_FLAG,
    text=_object(
        format=_object(type={"enum": ["text", "json_object", "json_schema"]}, schema=_OBJECT)
    ),
    reasoning=_object(effort={"enum": [*EFFORTS]}, summary={}),
    include={"type": "array", "items": {"type": "string", "minLength": 1}},
    top_logprobs={"type": "integer", "minimum": 0, "maximum": MAX_TOP_LOGPROBS},
    max_output_tokens=_count(1),
    temperature={"type": "number", "minimum": 0, "maximum": 2},
    top_p=_SHARE,
    truncation={"enum": ["auto", "disabled"]},
    metadata={"type": "object", "additionalProperties": _TEXT},
    prompt_cache_key=_TEXT,
    safety_identifier=_TEXT,
    user=_TEXT,
    store=_FLAG,
    stream=_FLAG,
)

BODIES: Final[dict[str, gojson.Reader]] = {
    "/v1/responses": gojson.described(_RESPONSE)(gojson.mapping),
    "/v1/responses/input_tokens": gojson.described(_RESPONSE)(gojson.mapping),
    "/v1/messages": gojson.described(_MESSAGES)(gojson.mapping),
    "/v1/messages/count_tokens": gojson.described(_object(**_PROMPT))(gojson.mapping),
}
