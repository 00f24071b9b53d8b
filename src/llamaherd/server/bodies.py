"""The bodies of requests: read whole, within bounds, and without holding up everybody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from starlette.requests import ClientDisconnect, Request

from llamaherd.errors import BadRequest

#: The largest JSON body that is read, in bytes; images come in it as base64.
MAX_BODY: Final = 512 << 20

#: A body of more bytes takes milliseconds to understand, in which the event loop can serve others.
_LARGE: Final = 1 << 16

T = TypeVar("T")


class BodyTooLarge(BadRequest):
    status = 413


async def read_request(request: Request, read: Callable[[bytes], T]) -> T:
    """What ``read`` makes of the body.

    Raises ``BodyTooLarge`` as soon as the body exceeds ``MAX_BODY``, ``BadRequest`` when it breaks
    off, and what ``read`` raises.
    """
    body = await _whole(request)
    if len(body) < _LARGE:
        return read(body)
    return await asyncio.to_thread(read, body)


async def _whole(request: Request) -> bytes:
    parts = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > MAX_BODY:
                raise BodyTooLarge(f"request body is larger than {MAX_BODY} bytes")
            parts.append(part)
    except ClientDisconnect:
        raise BadRequest("the request broke off") from None
    return b"".join(parts)
