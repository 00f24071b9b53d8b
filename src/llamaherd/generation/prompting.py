"""The prompt of a request, and its tokens."""

from __future__ import annotations

import asyncio
from typing import Final

from llamaherd.api.requests import ChatRequest, GenerateRequest
from llamaherd.catalog import CatalogModel
from llamaherd.errors import PromptError
from llamaherd.prompt.builder import Building, Prompt, chat_prompt, generate_prompt
from llamaherd.prompt.template import GoTemplate, PromptTemplate
from llamaherd.runner.process import Runner

#: A longer text, in bytes of UTF-8, isn't tokenized: no context could hold it, and with a token for
#: each byte the runner's answer would be longer than it may be (``child.LONGEST_ANSWER``).
LONGEST_TEXT: Final = 12 << 20


async def template_of(model: CatalogModel, request: GenerateRequest) -> PromptTemplate | None:
    """The request's template or the model's; None where the prompt is taken as it is.

    A request's template is parsed in a thread, as that may take a while.
    """
    if request.raw:
        return None
    if request.template:
        return await asyncio.to_thread(GoTemplate, request.template)
    return model.template


def generate_building(
    model: CatalogModel,
    request: GenerateRequest,
    template: PromptTemplate | None,
    limit: int | None,
) -> Building:
    return generate_prompt(
        template,
        request.prompt,
        # As in Ollama, messages are dropped only from the model's own template.
        limit=None if request.template else limit,
        system=request.system or model.stored.system or "",
        suffix=request.suffix,
        defaults=() if request.context else model.stored.messages,
        images=request.images,
        think=request.think,
    )


def chat_building(model: CatalogModel, request: ChatRequest, limit: int | None) -> Building:
    return chat_prompt(
        model.template,
        request.messages,
        limit=limit,
        tools=request.tools,
        think=request.think,
        system=model.stored.system or "",
        defaults=model.stored.messages,
    )


async def build(building: Building, runner: Runner) -> tuple[Prompt, list[int]]:
    """The prompt and its tokens; the builder's questions are answered by the runner.

    Templates come from strangers and may take their time, so they are rendered in a thread. A text
    of more than ``LONGEST_TEXT`` counts as a token for each byte.
    """
    tokens: dict[str, list[int]] = {}
    count: int | None = None
    while True:
        step = await asyncio.to_thread(_advance, building, count)
        text = step if isinstance(step, str) else step.text
        if (size := len(text.encode("utf-8", "replace"))) > LONGEST_TEXT:
            if not isinstance(step, str):
                raise PromptError(f"the prompt has {size} bytes, at most {LONGEST_TEXT} are read")
            count = size
            continue
        if text not in tokens:
            tokens = {text: await runner.tokenize(text)}
        if not isinstance(step, str):
            return step, tokens[text]
        count = len(tokens[text])


def _advance(building: Building, count: int | None) -> str | Prompt:
    """The next text to count, or at last the prompt."""
    try:
        return next(building) if count is None else building.send(count)
    except StopIteration as end:
        prompt: Prompt = end.value
        return prompt
