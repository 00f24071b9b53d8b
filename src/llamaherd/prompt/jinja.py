"""A GGUF's own chat template (``tokenizer.chat_template``), as Hugging Face renders it.

The conventions are those of ``apply_chat_template`` in Transformers: the variables ``messages``,
``tools``, ``documents``, ``add_generation_prompt`` and the special tokens, the functions
``raise_exception`` and ``strftime_now``, a plain ``tojson``. On top come the variables that
templates ask for to switch thinking (``enable_thinking``, ``thinking``, ``thinking_mode``) and to
tell how much (``reasoning_effort``, ``thinking_effort``, ``reasoning_strength``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

import jinja2
from jinja2 import nodes

from llamaherd.errors import TemplateError, TemplateRefusal, Unsupported
from llamaherd.messages import Message, Think, ToolCall, ToolCallFunction
from llamaherd.prompt.jinja_messages import (
    CALL_STYLES,
    CallStyle,
    conversation,
    definitions,
    in_usual_order,
)
from llamaherd.prompt.jinja_prices import allowance
from llamaherd.prompt.jinja_sandbox import BoundedEnvironment
from llamaherd.prompt.template import Capability, SpecialTokens, Values, collate

#: The largest template that is compiled, in characters; real ones have up to about 30,000.
MAX_TEMPLATE: Final = 512 * 1024

#: How much of a template's own error is told, in characters.
_LONGEST_REFUSAL: Final = 1000

#: A variable with the tools as text.
_OLDER_TOOLS: Final = "functions"

#: How templates call the level of ``think``.
_EFFORT_NAMES: Final = ("reasoning_effort", "thinking_effort", "reasoning_strength")

#: What a template that knows of thinking mentions.
_THINKING_NAMES: Final = frozenset({"enable_thinking", "thinking", "thinking_mode", *_EFFORT_NAMES})
_THINKING_TEXTS: Final = ("</think>", "[/THINK]", "reasoning_content")


class JinjaTemplate:
    """A chat template of a GGUF file; raises ``TemplateError`` if it doesn't compile.

    A last message of the assistant is left open, so that the model continues it.
    """

    def __init__(self, text: str, special: SpecialTokens) -> None:
        if len(text) > MAX_TEMPLATE:
            raise TemplateError(
                f"chat template of {len(text)} characters, at most {MAX_TEMPLATE} are allowed"
            )
        self.text = text
        self._special = special
        try:
            with allowance():
                tree = _ENVIRONMENT.counted_tree(text)
                self._variables = frozenset(
                    name.name for name in tree.find_all(nodes.Name) if name.ctx == "load"
                )
                self._template = _ENVIRONMENT.from_string(tree)
        except (jinja2.TemplateError, SyntaxError, RecursionError, MemoryError) as error:
            raise TemplateError(f"chat template of the model: {_reason(error)}") from error
        self.capabilities = self._capabilities()
        self._call_style = self._find_call_style()

    def _capabilities(self) -> frozenset[Capability]:
        found: set[Capability] = set()
        if self._variables & {"tools", _OLDER_TOOLS}:
            found.add("tools")
        if self._variables & _THINKING_NAMES or any(text in self.text for text in _THINKING_TEXTS):
            found.add("thinking")
        return frozenset(found)

    def _find_call_style(self) -> CallStyle:
        """The first style with which the arguments of all calls get through, or of the first."""
        if "tools" in self.capabilities or "tool_calls" in self.text:
            for values in (_PROBED, _PROBED[:1]):
                for style in CALL_STYLES:
                    if self._shows(values, style):
                        return style
        return CallStyle()

    def _shows(self, values: Sequence[str], style: CallStyle) -> bool:
        """Whether calls with these arguments get through, neither quoted nor as Python's repr."""
        try:
            text = self._render(conversation(_called_with(values), style), [_TOOL_PROBE], True)
        except TemplateError:
            return False
        return "{'probe" not in text and all(
            value in text and f'\\"{value}' not in text for value in values
        )

    def render(self, values: Values) -> str:
        """Raises ``Unsupported`` for a suffix, ``TemplateRefusal`` and ``TemplateError``."""
        if values.suffix:
            raise Unsupported("the chat template of this model has no place for a suffix")
        messages = collate(values.messages)
        continued = bool(messages) and _is_open(messages[-1])

        def rendered(messages: Sequence[Message]) -> str:
            turns = conversation(messages, self._call_style)
            tools = definitions(values.tools)
            return self._render(turns, tools, not continued, **_thinking(values.think))

        try:
            text = rendered(messages)
        except TemplateRefusal:
            ordered = collate(in_usual_order(messages))
            if ordered == messages:
                raise
            text = rendered(ordered)
        if continued:
            text = _cut_after(text, messages[-1].content)
        if self._special.adds_bos and self._special.bos:
            text = text.removeprefix(self._special.bos)
        return text

    def _render(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]],
        add_generation_prompt: bool,
        **variables: Any,
    ) -> str:
        try:
            with allowance():
                return self._template.render(
                    messages=_own(messages),
                    tools=_own(tools) or None,
                    documents=None,
                    add_generation_prompt=add_generation_prompt,
                    bos_token=self._special.bos,
                    eos_token=self._special.eos,
                    **self._older_variables(tools),
                    **variables,
                )
        except _Refused as refusal:
            raise TemplateRefusal(
                f"the chat template of the model refuses these messages: {refusal}"
            ) from refusal
        # A template is a program of a stranger: any exception is its failure, not ours.
        except Exception as error:
            raise TemplateError(f"chat template of the model: {_reason(error)}") from error

    def _older_variables(self, tools: list[dict[str, Any]]) -> dict[str, str]:
        """What Firefunction's template has instead of ``tools``, as its model card fills it in."""
        if _OLDER_TOOLS not in self._variables:
            return {}
        functions = [tool["function"] for tool in tools]
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S GMT")
        return {_OLDER_TOOLS: json.dumps(functions, indent=4), "datetime": now}


def _own(value: Any) -> Any:
    """A copy whose lists a template may change."""
    match value:
        case dict():
            return {key: _own(member) for key, member in value.items()}
        case list():
            return [_own(member) for member in value]
        case _:
            return value


_TOOL_PROBE: Final = {
    "type": "function",
    "function": {
        "name": "try",
        "description": "try",
        "parameters": {"type": "object", "properties": {"probe": {"type": "string"}}},
    },
}
#: What calls are tried with, in one message.
_PROBED: Final = ("probed", "likewise")


def _called_with(values: Sequence[str]) -> list[Message]:
    """A conversation with a call for each argument, and ids as OpenAI's clients send them."""
    calls = [
        ToolCall(ToolCallFunction(name="try", arguments={"probe": value}), f"call_{value}_0001")
        for value in values
    ]
    results = [Message(role="tool", content="done", tool_call_id=call.id) for call in calls]
    return [
        Message(role="user", content="go"),
        Message(role="assistant", tool_calls=calls),
        *results,
    ]


class _Refused(jinja2.TemplateError):
    """The template called ``raise_exception``."""


def _raise_exception(message: Any) -> NoReturn:
    raise _Refused(str(message)[:_LONGEST_REFUSAL])


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Transformers' ``tojson``: unlike Jinja's, it escapes nothing for HTML."""
    if indent is not None and not 0 <= indent <= 16:
        raise ValueError("indent must be from 0 to 16")
    if separators is not None and sum(map(len, separators)) > 16:
        raise ValueError("separators must have at most 16 characters")
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _environment() -> BoundedEnvironment:
    environment = BoundedEnvironment()
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    environment.add_filter("tojson", _to_json)
    return environment


_ENVIRONMENT: Final = _environment()


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "it nests too deeply"
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f"line {error.lineno}: {error.message}"
    return str(error) or type(error).__name__


def _thinking(think: Think) -> dict[str, Any]:
    if think is None:
        return {}
    variables: dict[str, Any] = {
        "enable_thinking": bool(think),
        "thinking": bool(think),
        "thinking_mode": "enabled" if think else "disabled",
    }
    if isinstance(think, str):
        variables |= dict.fromkeys(_EFFORT_NAMES, think)
    return variables


def _is_open(message: Message) -> bool:
    return message.role == "assistant" and not message.tool_calls and bool(message.content)


def _cut_after(text: str, content: str) -> str:
    """The text up to the end of the last message, so that the model continues it.

    Templates may strip a message, so its trailing spaces are put back.
    """
    stripped = content.strip()
    start = text.rfind(stripped)
    if start < 0:
        raise TemplateError("the chat template of the model hides the message to be continued")
    return text[: start + len(stripped)] + content[len(content.rstrip()) :]
