"""What goes wrong, before and while a reply is written."""

from __future__ import annotations

import base64
import os
import signal
from typing import Any

import openai
import pytest

from tests.openai_api.models import ENDLESS, HELLO, TOOLS
from tests.support.server import RunningServer

PICTURE = f"data:image/png;base64,{base64.b64encode(b'not looked at').decode()}"


class TestErrors:
    @pytest.mark.parametrize("stream", [True, False])
    def test_an_unknown_model(self, stream: bool, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model="nosuch", messages=HELLO, stream=stream)
        assert caught.value.body == {
            "message": 'model "nosuch" not found, try pulling it first',
            "type": "api_error",
            "param": None,
            "code": None,
        }

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"model": "raw", "tools": TOOLS}, "does not support tools"),
            ({"reasoning_effort": "low"}, "does not support thinking"),
            (
                {
                    "messages": [
                        {
                            "role": "user",
                            "content": [{"type": "image_url", "image_url": {"url": PICTURE}}],
                        }
                    ]
                },
                "does not support images",
            ),
            ({"messages": [{"role": "boss", "content": "x"}]}, 'invalid role: "boss"'),
            ({"logit_bias": {"99999": 1}}, "logit_bias names token 99999, there are 512"),
            (
                {
                    "response_format": {
                        "type": "json_schema",
                        "json_schema": {"name": "t", "schema": {"type": "float"}},
                    }
                },
                "invalid JSON schema in format",
            ),
        ],
    )
    @pytest.mark.parametrize("stream", [True, False])
    def test_what_a_model_can_not_do(
        self, stream: bool, fields: dict[str, Any], message: str, client: openai.OpenAI
    ) -> None:
        request: dict[str, Any] = {"model": "tiny", "messages": HELLO, "stream": stream} | fields
        with pytest.raises(openai.BadRequestError, match=message) as caught:
            client.chat.completions.create(**request)
        assert caught.value.type == "api_error"

    def test_what_can_not_be_read(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="between 1 and 128") as caught:
            client.chat.completions.create(model="tiny", messages=HELLO, n=0)
        error = caught.value
        assert (error.type, error.param, error.code) == (
            "invalid_request_error",
            "n",
            "integer_below_min_value",
        )

    @pytest.mark.parametrize("stream", [True, False])
    def test_a_function_that_is_not_there(self, stream: bool, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match='no function "nosuch"') as caught:
            client.chat.completions.create(
                model="caller",
                messages=HELLO,
                tools=TOOLS,
                tool_choice={"type": "function", "function": {"name": "nosuch"}},
                stream=stream,
            )
        error = caught.value
        assert (error.type, error.param) == ("invalid_request_error", "tool_choice")

    def test_tokens_that_the_model_does_not_have(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="token 512 is not in the vocabulary"):
            client.completions.create(model="tiny", prompt=[1, 512])

    def test_a_stream_that_breaks_off_raises(
        self, client: openai.OpenAI, server: RunningServer
    ) -> None:
        stream = client.chat.completions.create(
            model="tiny", messages=HELLO, n=2, stream=True, logit_bias=ENDLESS
        )
        assert next(stream).choices
        reading = [line for line in server.log if "reads a prompt" in line][-1]
        os.kill(int(reading.partition("runner ")[2].split()[0]), signal.SIGKILL)
        with pytest.raises(openai.APIError, match="model runner has unexpectedly stopped"):
            list(stream)

    def test_a_client_that_goes_away_stops_all_choices(
        self, client: openai.OpenAI, server: RunningServer
    ) -> None:
        """The model serves four at a time, so none that goes on may be left."""
        for _ in range(2):
            stream = client.chat.completions.create(
                model="tiny", messages=HELLO, n=4, stream=True, logit_bias=ENDLESS
            )
            assert next(stream).choices
            stream.close()
        assert client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=1).choices
