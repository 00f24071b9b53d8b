"""The prompt of a request, and its tokens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Final

from llamaherd.api.requests import ChatRequest, GenerateRequest
from llamaherd.catalog import CatalogModel
from llamaherd.errors import BadRequest, ContextExceeded, ImagesExceedContext, PromptError
from llamaherd.prompt.builder import Building, Prompt, chat_prompt, generate_prompt
from llamaherd.prompt.template import GoTemplate, PromptTemplate
from llamaherd.runner.process import Runner
from llamaherd.runner.protocol import Placed

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


@dataclass(frozen=True, slots=True)
class ReadablePrompt:
    """A prompt as a runner reads it: its tokens, and the images that stand between them.

    ``of_images`` is how many cells of the context the images take.
    """

    prompt: Prompt
    tokens: list[int]
    images: list[Placed]
    of_images: int

    @property
    def count(self) -> int:
        """How many cells of the context all that takes."""
        return len(self.tokens) + self.of_images

    def images_after(self, before: int) -> list[Placed]:
        """The images where ``before`` more tokens stand after the opening ones."""
        return [Placed(placed.at + before, placed.image) for placed in self.images]


async def build(building: Building, runner: Runner) -> ReadablePrompt:
    """The prompt and its tokens; the builder's questions are answered by the runner.

    Templates come from strangers and may take their time, so they are rendered in a thread. A text
    of more than ``LONGEST_TEXT`` counts as a token for each byte. Raises ``PromptError`` for one,
    for images that take as many tokens, and for those that the model can't be shown.
    """
    reader = _Reader(runner)
    found: tuple[Prompt, ReadablePrompt] | None = None
    count: int | None = None
    while True:
        step, is_last = await asyncio.to_thread(_advance, building, count)
        if (size := len(step.text.encode("utf-8", "replace"))) > LONGEST_TEXT:
            if is_last:
                raise PromptError(f"the prompt has {size} bytes, at most {LONGEST_TEXT} are read")
            count = size
            continue
        if found is None or (found[0].text, found[0].images) != (step.text, step.images):
            found = step, await reader.read(step)
        if is_last:
            if found[1].count > LONGEST_TEXT:
                raise PromptError(
                    f"the prompt has {found[1].count} tokens, at most {LONGEST_TEXT} are read"
                )
            return replace(found[1], prompt=step)
        count = found[1].count


def check_images_fit(read: ReadablePrompt, n_ctx: int, *, truncate: bool) -> None:
    """Raises ``PromptError`` where images alone exceed the context, before they are encoded.

    The runner refuses them too (``engine.sequence.fit_prompt``), but not before it has seen all,
    and of many that takes minutes and gigabytes.
    """
    if read.of_images <= n_ctx:
        return
    if truncate:
        raise ImagesExceedContext(read.count, read.of_images, n_ctx)
    raise ContextExceeded(read.count, n_ctx)


class _Reader:
    """Has a runner translate prompts that may have images in common."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._sizes: dict[bytes, int] = {}

    async def read(self, prompt: Prompt) -> ReadablePrompt:
        tokens: list[int] = []
        images: list[Placed] = []
        indexes: list[int] = []
        for number, segment in enumerate(prompt.segments()):
            if isinstance(segment, str):
                tokens += await self._runner.tokenize(segment, add_special=number == 0)
            else:
                images.append(Placed(len(tokens), prompt.images[segment]))
                indexes.append(segment)
        sizes = [await self._size(prompt, index) for index in indexes]
        return ReadablePrompt(prompt, tokens, images, sum(sizes))

    async def _size(self, prompt: Prompt, index: int) -> int:
        """Raises ``PromptError`` that says which of several images can't be shown."""
        image = prompt.images[index]
        if image not in self._sizes:
            try:
                self._sizes[image] = await self._runner.look(image)
            except BadRequest as error:
                if len(prompt.images) == 1:
                    raise
                which = f"image {index + 1} of {len(prompt.images)}"
                raise PromptError(f"{which}: {error.message}") from error
        return self._sizes[image]


def _advance(building: Building, count: int | None) -> tuple[Prompt, bool]:
    """The next prompt to count, or at last the one to use, and whether it is that."""
    try:
        return (next(building) if count is None else building.send(count)), False
    except StopIteration as end:
        return end.value, True
