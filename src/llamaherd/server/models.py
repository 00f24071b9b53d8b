"""Routes that tell OpenAI's and Anthropic's clients what models there are.

Both ask on the same paths, and each is answered in its own way.
"""

from __future__ import annotations

import asyncio
from typing import Final

from msgspec import Struct
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llamaherd.api.anthropic_replies import ModelInfo, ModelPage
from llamaherd.api.fields import Fields
from llamaherd.api.openai_replies import Model, ModelList, error_object
from llamaherd.api.paging import Paging
from llamaherd.api.replies import timestamp
from llamaherd.errors import InvalidName, LlamaherdError, ModelNotFound
from llamaherd.server.anthropic import NamedRequest, refuse
from llamaherd.server.openai import failed, json_line
from llamaherd.server.refusals import is_anthropic
from llamaherd.server.services import Services, services_of
from llamaherd.store.names import Name

_PAGING: Final = Paging(after="after_id", before="before_id", default=20, most=1000)


class _Listed(Struct, frozen=True):
    """A model under the name that a client sees; ``modified_at`` in nanoseconds since 1970."""

    id: str
    owner: str
    modified_at: int

    def for_openai(self) -> Model:
        return Model(self.id, "model", self.modified_at // 10**9, self.owner)

    def for_anthropic(self) -> ModelInfo:
        return ModelInfo(self.id, timestamp(self.modified_at), self.id)


async def models(request: Request) -> Response:
    """All models, the one that changed last first; Anthropic's clients get them in pages."""
    stored = await asyncio.to_thread(services_of(request).library.list)
    found = [_Listed(one.name.short, one.name.namespace, one.modified_at) for one in stored]
    if not is_anthropic(request.scope):
        return json_line(ModelList("list", [one.for_openai() for one in found]))
    try:
        page = _PAGING.page(
            Fields(dict(request.query_params)),
            [one.for_anthropic() for one in found],
            lambda info: info.id,
        )
    except LlamaherdError as error:
        return refuse(error)
    ids = [info.id for info in page.items]
    first, last = (ids[0], ids[-1]) if ids else (None, None)
    return json_line(ModelPage(page.items, page.has_more, first, last))


async def model(request: Request) -> Response:
    wanted = request.path_params["model"]
    if not wanted:
        raise HTTPException(404)
    anthropic = is_anthropic(request.scope)
    try:
        found = await asyncio.to_thread(_retrieve, services_of(request), wanted)
    except LlamaherdError as error:
        return refuse(error) if anthropic else _refuse_to_openai(error)
    return json_line(found.for_anthropic() if anthropic else found.for_openai())


def _retrieve(services: Services, wanted: str) -> _Listed:
    try:
        stored = services.library.manifest(Name.parse(wanted))
    except (InvalidName, ModelNotFound):
        raise ModelNotFound(wanted) from None
    return _Listed(wanted, stored.name.namespace, stored.modified_at)


def _refuse_to_openai(error: LlamaherdError) -> Response:
    if not isinstance(error, ModelNotFound):
        return failed(error)
    body = error_object(error.message, "api_error", "model_not_found", param="model")
    return json_line(body, error.status)


class _AnyText(PathConvertor):
    """The rest of a path, line breaks too, which Starlette's own leaves out."""

    regex = "(?s:.*)"


register_url_convertor("any", _AnyText())

_NAMED: Final = [Middleware(NamedRequest)]

routes = [
    Route("/v1/models", models, methods=["GET"], middleware=_NAMED),
    Route("/v1/models/{model:any}", model, methods=["GET"], middleware=_NAMED),
]
