"""Which template a model gets."""

from __future__ import annotations

from functools import lru_cache

from llamaherd.prompt.jinja import JinjaTemplate
from llamaherd.prompt.known import recognise
from llamaherd.prompt.template import USUAL_TOKENS, GoTemplate, PromptTemplate, SpecialTokens

#: For a model that says nothing: the prompt as it is.
PLAIN = "{{ .Prompt }}"


@lru_cache(maxsize=64)
def choose_template(
    template_layer: str | None,
    chat_template: str | None,
    special: SpecialTokens = USUAL_TOKENS,
) -> PromptTemplate:
    """The model's own TEMPLATE, else a known format equal to its GGUF's, else the GGUF's itself.

    ``chat_template`` is the GGUF's ``tokenizer.chat_template``. Without any of them the prompt is
    taken as it is. Raises ``TemplateError`` for a template that doesn't parse.
    """
    if template_layer:
        return GoTemplate(template_layer)
    if chat_template:
        known = recognise(chat_template, special)
        return GoTemplate(known.text) if known else JinjaTemplate(chat_template, special)
    return GoTemplate(PLAIN)
