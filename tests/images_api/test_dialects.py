"""Every dialect shows a model the images that are sent, with the clients that people use.

What is expected is what llama.cpp's own loop writes; see ``sights``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest
from openai.types.responses import Response

from tests.images_api.sights import CAT, DOG, Sight, b64, data_url
from tests.support.server import RunningServer
from tests.support.vision import KINDS, Kind

#: Replies of as many tokens as the oracle's.
LENGTH = 8


class TestOllama:
    @pytest.fixture
    def client(self, server: RunningServer) -> Iterator[ollama.Client]:
        with ollama.Client(host=server.host) as client:
            yield client

    @pytest.mark.parametrize("kind", KINDS)
    def test_every_kind_of_model(
        self, client: ollama.Client, sights: Mapping[Kind, Sight], kind: Kind
    ) -> None:
        sight = sights[kind]
        for name, images in {"cat": [CAT], "dog": [DOG], "none": [], "both": [CAT, DOG]}.items():
            reply = client.generate(kind, "What is it?", images=images)
            assert reply.response == sight.text(name), name
            assert reply.prompt_eval_count == sight.count(name)

    def test_bytes_base64_and_files(
        self, client: ollama.Client, llava: Sight, tmp_path: Path
    ) -> None:
        file = tmp_path / "cat.png"
        file.write_bytes(CAT)
        for image in (CAT, b64(CAT), file, str(file)):
            reply = client.generate("llava", "What is it?", images=[ollama.Image(value=image)])
            assert reply.response == llava.text("cat")

    def test_chat(self, client: ollama.Client, llava: Sight) -> None:
        question = {"role": "user", "content": "What is it?", "images": [CAT]}
        assert client.chat("llava", [question]).message.content == llava.text("cat")
        talk: list[dict[str, Any]] = [
            question,
            {"role": "assistant", "content": "A cat."},
            {"role": "user", "content": "And this?", "images": [DOG]},
        ]
        reply = client.chat("llava", talk)
        assert reply.message.content == llava.text("two turns")
        assert reply.prompt_eval_count == llava.count("two turns")

    def test_streams(self, client: ollama.Client, llava: Sight) -> None:
        parts = client.generate("llava", "What is it?", images=[CAT, DOG], stream=True)
        assert "".join(part.response or "" for part in parts) == llava.text("both")
        question = {"role": "user", "content": "What is it?", "images": [CAT, DOG]}
        turns = client.chat("llava", [question], stream=True)
        assert "".join(turn.message.content or "" for turn in turns) == llava.text("both")

    def test_messages_of_every_role(self, client: ollama.Client, llava: Sight) -> None:
        talk: list[dict[str, Any]] = [
            {"role": "system", "content": "Look.", "images": [CAT]},
            {"role": "user", "content": "Once"},
            {"role": "tool", "content": "found", "images": [DOG]},
        ]
        assert client.chat("llava", talk).message.content == llava.text("all roles")

    def test_a_message_of_only_an_image(self, client: ollama.Client, llava: Sight) -> None:
        question = {"role": "user", "content": "", "images": [CAT]}
        assert client.chat("llava", [question]).message.content == llava.text("only")

    def test_show(self, client: ollama.Client) -> None:
        shown = client.show("llava")
        assert shown.capabilities == ["completion", "vision"]
        assert shown.details is not None
        assert shown.details.families == ["llama", "clip"]
        assert client.show("blind").capabilities == ["completion"]

    @pytest.mark.anyio
    async def test_asynchronously(self, server: RunningServer, llava: Sight) -> None:
        async with ollama.AsyncClient(host=server.host) as client:
            reply = await client.generate("llava", "What is it?", images=[DOG])
            assert reply.response == llava.text("dog")


class TestOpenAI:
    @pytest.fixture
    def client(self, server: RunningServer) -> Iterator[openai.OpenAI]:
        url = f"http://{server.host}/v1/"
        with openai.OpenAI(base_url=url, api_key="ollama", max_retries=0) as client:
            yield client

    @staticmethod
    def text(text: str) -> dict[str, Any]:
        return {"type": "text", "text": text}

    @staticmethod
    def image(content: bytes, **more: Any) -> dict[str, Any]:
        return {"type": "image_url", "image_url": {"url": data_url(content), **more}}

    def ask(self, client: openai.OpenAI, *parts: Any) -> Any:
        talk: Any = [{"role": "user", "content": list(parts)}]
        return client.chat.completions.create(
            model="llava", messages=talk, temperature=0, max_tokens=LENGTH
        )

    def test_chat_completions(self, client: openai.OpenAI, llava: Sight) -> None:
        reply = self.ask(client, self.image(CAT, detail="high"), self.text("What is it?"))
        assert reply.choices[0].message.content == llava.text("cat")
        assert reply.usage.prompt_tokens == llava.count("cat")

    def test_images_stand_where_they_are_between_texts(
        self, client: openai.OpenAI, llava: Sight
    ) -> None:
        texts = self.text("The first:"), self.text("The second:")
        reply = self.ask(client, texts[0], self.image(CAT), texts[1], self.image(DOG))
        assert reply.choices[0].message.content == llava.text("labelled")

    @pytest.mark.parametrize("kind", ["image/jpeg", "application/octet-stream", ""])
    def test_the_content_counts_and_not_what_the_url_says_of_it(
        self, client: openai.OpenAI, llava: Sight, kind: str
    ) -> None:
        image = {"type": "image_url", "image_url": {"url": data_url(CAT, kind)}}
        reply = self.ask(client, image, self.text("What is it?"))
        assert reply.choices[0].message.content == llava.text("cat")

    def test_a_stream(self, client: openai.OpenAI, llava: Sight) -> None:
        talk: Any = [{"role": "user", "content": [self.image(DOG), self.text("What is it?")]}]
        stream = client.chat.completions.create(
            model="llava", messages=talk, temperature=0, max_tokens=LENGTH, stream=True
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        assert text == llava.text("dog")

    def test_an_image_in_a_tools_result(self, client: openai.OpenAI, llava: Sight) -> None:
        talk: Any = [
            {"role": "system", "content": [self.image(CAT), self.text("Look.")]},
            {"role": "user", "content": "Once"},
            {"role": "tool", "tool_call_id": "1", "content": [self.image(DOG), self.text("found")]},
        ]
        reply = client.chat.completions.create(
            model="llava", messages=talk, temperature=0, max_tokens=LENGTH
        )
        assert reply.choices[0].message.content == llava.text("all roles")

    def respond(self, client: openai.OpenAI, *parts: Any, **more: Any) -> Response:
        said: Any = [{"role": "user", "content": list(parts)}]
        # The interface asks for 16 tokens at least; the model's own limit is less.
        reply = client.responses.create(model="llava", input=said, temperature=0, **more)
        assert isinstance(reply, Response)
        return reply

    def test_responses(self, client: openai.OpenAI, llava: Sight) -> None:
        image = {"type": "input_image", "image_url": data_url(CAT), "detail": "auto"}
        reply = self.respond(client, image, {"type": "input_text", "text": "What is it?"})
        assert reply.output_text == llava.text("cat")
        assert reply.usage is not None
        assert reply.usage.input_tokens == llava.count("cat")

    def test_a_response_is_gone_on_from_with_its_image(
        self, client: openai.OpenAI, server: RunningServer
    ) -> None:
        image = {"type": "input_image", "image_url": data_url(CAT)}
        first = self.respond(client, image, {"type": "input_text", "text": "What is it?"})
        again = {"type": "input_text", "text": "Really?"}
        second = self.respond(client, again, previous_response_id=first.id)
        talk = [
            {"role": "user", "content": "What is it?", "images": [b64(CAT)]},
            {"role": "assistant", "content": first.output_text},
            {"role": "user", "content": "Really?"},
        ]
        whole = server.post("/api/chat", model="llava", messages=talk, stream=False).json()
        assert second.output_text == whole["message"]["content"]
        assert second.usage is not None
        assert second.usage.input_tokens == whole["prompt_eval_count"]


class TestAnthropic:
    @pytest.fixture
    def client(self, server: RunningServer) -> Iterator[anthropic.Anthropic]:
        url = f"http://{server.host}"
        with anthropic.Anthropic(base_url=url, api_key="ollama", max_retries=0) as client:
            yield client

    @staticmethod
    def image(content: bytes) -> dict[str, Any]:
        source = {"type": "base64", "media_type": "image/png", "data": b64(content)}
        return {"type": "image", "source": source}

    def request(self, *blocks: Any) -> Any:
        return {"model": "llava", "messages": [{"role": "user", "content": list(blocks)}]}

    def ask(self, client: anthropic.Anthropic, *blocks: Any) -> tuple[str, int]:
        """The text of the reply, and how many tokens were read for it."""
        reply = client.messages.create(**self.request(*blocks), max_tokens=LENGTH)
        (block,) = reply.content
        assert block.type == "text"
        usage = reply.usage
        cached = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
        return block.text, usage.input_tokens + cached

    def test_messages(self, client: anthropic.Anthropic, llava: Sight) -> None:
        said = self.ask(client, self.image(CAT), {"type": "text", "text": "What is it?"})
        assert said == (llava.text("cat"), llava.count("cat"))

    def test_images_stand_where_they_are_between_texts(
        self, client: anthropic.Anthropic, llava: Sight
    ) -> None:
        first, second = ({"type": "text", "text": f"The {which}:"} for which in ("first", "second"))
        text, _ = self.ask(client, first, self.image(CAT), second, self.image(DOG))
        assert text == llava.text("labelled")

    def test_a_stream(self, client: anthropic.Anthropic, llava: Sight) -> None:
        asked = self.request(self.image(DOG), {"type": "text", "text": "What is it?"})
        with client.messages.stream(**asked, max_tokens=LENGTH) as stream:
            assert stream.get_final_text() == llava.text("dog")

    def test_tokens_are_counted(self, client: anthropic.Anthropic, llava: Sight) -> None:
        asked = self.request(self.image(CAT), {"type": "text", "text": "What is it?"})
        assert client.messages.count_tokens(**asked).input_tokens == llava.count("cat")
