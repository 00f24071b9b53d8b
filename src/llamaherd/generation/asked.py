"""What a request asks of a model, checked against what the model can do."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from llamaherd.api.requests import ChatRequest, GenerateRequest
from llamaherd.catalog import CatalogModel
from llamaherd.errors import BadRequest, PromptError
from llamaherd.formats import grammar_of
from llamaherd.prompt.reply_forms import offered_tools


def check_generate(model: CatalogModel, request: GenerateRequest) -> None:
    """Raises ``Unsupported`` for what the model can't do, ``BadRequest`` for what nobody can."""
    model.require("completion", f'"{request.model}" does not support generate')
    if request.raw and (request.template or request.system or request.context):
        raise BadRequest("raw mode does not support template, system, or context")
    if request.suffix:
        model.require("insert")
    if request.think:
        model.require("thinking")
    _check_images(model, request.images)
    grammar_of(request.format)


def check_context(context: Sequence[int], n_vocab: int) -> None:
    """Raises ``PromptError`` for tokens that a vocabulary of so many doesn't have."""
    for token in context:
        if not 0 <= token < n_vocab:
            raise PromptError(
                f"context: token {token} is not in the vocabulary, which has {n_vocab} tokens"
            )


def asked_chat(model: CatalogModel, request: ChatRequest) -> ChatRequest:
    """The request as the model is asked it: only with the tools that it is to be told of, and
    without thinking that is only wanted from models that can.

    Raises as ``check_generate``.
    """
    tools = offered_tools(request.tools, request.tool_choice)
    think = request.think
    if request.think_if_able and "thinking" not in model.capabilities:
        think = None
    request = msgspec.structs.replace(request, tools=tools, think=think)
    model.require("completion", f'"{request.model}" does not support chat')
    if request.tools:
        model.require("tools")
    if request.think:
        model.require("thinking")
    _check_images(model, [image for message in request.messages for image in message.images])
    grammar_of(request.format)
    return request


def _check_images(model: CatalogModel, images: Sequence[bytes]) -> None:
    """Ollama drops images that a model can't see without a word; we say so."""
    if images:
        model.require("vision", f"{model.name.full} does not support images")
