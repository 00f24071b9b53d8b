"""Which template a model gets."""

from __future__ import annotations

from functools import lru_cache
from typing import NoReturn

from llamaherd.errors import TemplateError
from llamaherd.prompt.jinja import JinjaTemplate
from llamaherd.prompt.known import recognise
from llamaherd.prompt.template import (
    USUAL_TOKENS,
    Capability,
    GoTemplate,
    PromptTemplate,
    SpecialTokens,
    Values,
)

#: For a model that says nothing: the prompt as it is.
PLAIN = "{{ .Prompt }}"


class BrokenTemplate:
    """A chat template that doesn't compile. Its model can still be looked at and prompted raw."""

    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, text: str, error: TemplateError) -> None:
        self.text = text
        self._complaint = error.message

    def render(self, values: Values) -> NoReturn:
        raise TemplateError(self._complaint)


class ToolUseTemplate:
    """A template of its own for conversations with tools, beside the usual one.

    Transformers chooses between the ones that are named "default" and "tool_use" in the same way.
    """

    def __init__(self, usual: PromptTemplate, with_tools: PromptTemplate) -> None:
        self.text = usual.text
        self.capabilities: frozenset[Capability] = usual.capabilities | with_tools.capabilities
        self._usual = usual
        self._with_tools = with_tools

    def render(self, values: Values) -> str:
        return (self._with_tools if values.tools else self._usual).render(values)


@lru_cache(maxsize=64)
def choose_template(
    template_layer: str | None,
    chat_template: str | None,
    special: SpecialTokens = USUAL_TOKENS,
    tool_template: str | None = None,
) -> PromptTemplate:
    """The model's own TEMPLATE, else a known format equal to its GGUF's, else the GGUF's itself.

    ``chat_template`` is the GGUF's ``tokenizer.chat_template``, ``tool_template`` the one that it
    may have beside it for conversations with tools. Without any of them the prompt is taken as it
    is. Raises ``TemplateError`` for a TEMPLATE that doesn't parse.
    """
    if template_layer:
        return GoTemplate(template_layer)
    if chat_template:
        known = recognise(chat_template, special)
        usual = GoTemplate(known.text) if known else _compiled(chat_template, special)
        if tool_template:
            return ToolUseTemplate(usual, _compiled(tool_template, special))
        return usual
    return GoTemplate(PLAIN)


def _compiled(chat_template: str, special: SpecialTokens) -> PromptTemplate:
    try:
        return JinjaTemplate(chat_template, special)
    except TemplateError as error:
        return BrokenTemplate(chat_template, error)
