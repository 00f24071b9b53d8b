"""A route that fails in a way nobody foresaw: its answer has a shape, an id and a log line."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from llamaherd.errors import StoreError
from llamaherd.server.log import AccessLog, RequestIds
from llamaherd.server.refusals import Unforeseen
from llamaherd.telemetry import Observation, RequestEnded

FAULT = "internal error: ZeroDivisionError"


async def ask(
    path: str, error: Exception, *, late: bool = False, **headers: str
) -> tuple[list[Message], Any]:
    """What a route is answered with that raises ``error``, after it began to answer if ``late``.

    Of the ``headers`` of the request, ``_`` stands for a hyphen.
    """
    sent: list[Message] = []
    seen: list[Observation] = []

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        if late:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "headers": [
            (b"x-request-id", b"mine"),
            *((name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()),
        ],
        "client": None,
    }
    app = RequestIds(AccessLog(Unforeseen(route), routes={}, observe=seen.append))
    try:
        await app(scope, receive, send)
    finally:
        assert isinstance(seen[-1], RequestEnded)
        assert seen[-1].status == sent[0]["status"]
        assert (b"x-request-id", b"mine") in sent[0]["headers"]
    return sent, json.loads(sent[1]["body"])


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/tags", {"error": FAULT}),
        (
            "/v1/models",
            {"error": {"message": FAULT, "type": "api_error", "param": None, "code": None}},
        ),
        (
            "/v1/messages",
            {
                "type": "error",
                "error": {"type": "api_error", "message": FAULT},
                "request_id": "mine",
            },
        ),
        (
            "/v1/models-of-mine",
            {"error": {"message": FAULT, "type": "api_error", "param": None, "code": None}},
        ),
        (
            "/v1/messages-of-mine",
            {"error": {"message": FAULT, "type": "api_error", "param": None, "code": None}},
        ),
    ],
)
async def test_the_shape_is_that_of_the_interface(
    path: str, body: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        sent, found = await ask(path, ZeroDivisionError("details that are nobody's business"))
    assert (sent[0]["status"], found) == (500, body)
    internal, access = caplog.records
    assert (internal.message, internal.exc_info is not None) == ("internal error", True)
    assert access.message.startswith("500 | ")


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/tiny"])
async def test_who_speaks_anthropic_s_interface_is_answered_in_it(path: str) -> None:
    _, found = await ask(path, StoreError("disk full"), anthropic_version="2023-06-01")
    error = {"type": "api_error", "message": "disk full"}
    assert found == {"type": "error", "error": error, "request_id": "mine"}


@pytest.mark.anyio
async def test_an_error_with_a_status_keeps_it() -> None:
    sent, found = await ask("/api/tags", StoreError("disk full"))
    assert (sent[0]["status"], found) == (500, {"error": "disk full"})


@pytest.mark.anyio
async def test_an_answer_that_has_begun_breaks_off() -> None:
    with pytest.raises(ZeroDivisionError):
        await ask("/api/tags", ZeroDivisionError(), late=True)
