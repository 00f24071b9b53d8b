"""Thinking, told from the answer: by the splitter, and by the server with a model that thinks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ollama
import pytest

from llamaherd.events import Text, Thinking
from llamaherd.messages import Think
from llamaherd.prompt.jinja import JinjaTemplate
from llamaherd.prompt.replies import reply_parser
from llamaherd.prompt.tags import USUAL_TAGS, Tags, TagSplitter, thinking_tags
from llamaherd.prompt.template import USUAL_TOKENS, GoTemplate
from tests.support.models import write_parrot
from tests.support.replies import in_pieces, parts, summary
from tests.support.server import RunningServer, running_server


def split(text: str, tags: Tags = USUAL_TAGS, *, opened: bool = False) -> list[Any]:
    """It must not depend on how the text arrives."""
    whole = summary(parts(TagSplitter(tags, opened=opened), [text]))
    for size in (1, 2, 5):
        assert summary(parts(TagSplitter(tags, opened=opened), in_pieces(text, size))) == whole
    return whole


class TestSplitter:
    def test_thinking_ends_with_its_tag(self) -> None:
        assert split("<think>hm</think>yes") == [("thinks", "hm"), "yes"]

    def test_white_space_after_either_tag_belongs_to_neither(self) -> None:
        text = " \n<think>\n\n hm \n</think>\n\n yes \n"
        assert split(text) == [("thinks", "hm \n"), "yes \n"]

    def test_empty_thinking_is_none(self) -> None:
        assert split("<think>\n\n</think>\n\nyes") == ["yes"]
        assert split("<think></think>") == split("<think>") == []

    def test_the_closing_tag_alone_says_that_there_is_none(self) -> None:
        assert split("</think>\n\nyes") == split(" </think>yes") == ["yes"]

    def test_the_prompt_may_have_opened_it(self) -> None:
        assert split("\nhm</think>\nyes", opened=True) == [("thinks", "hm"), "yes"]
        assert split("hm", opened=True) == [("thinks", "hm")]

    @pytest.mark.parametrize(
        "text", ["yes <think>hm</think>", " \nyes", "", "  ", "<thin", " <thinkable>", "</thin"]
    )
    def test_only_what_begins_with_the_tag_thinks(self, text: str) -> None:
        assert split(text) == ([text] if text else [])

    def test_thinking_that_breaks_off_is_thinking(self) -> None:
        assert split("<think>a < b </thin") == [("thinks", "a < b </thin")]

    def test_tags_in_the_answer_are_text(self) -> None:
        text = "<think>a<think>b</think>yes <think>c</think>"
        assert split(text) == [("thinks", "a<think>b"), "yes <think>c</think>"]

    def test_any_tags(self) -> None:
        assert split("[THINK]é🌍[/THINK]é", Tags("[THINK]", "[/THINK]")) == [("thinks", "é🌍"), "é"]

    def test_text_flows_until_a_tag_may_begin(self) -> None:
        splitter = TagSplitter()
        assert splitter.feed("<think>1 <") == [Thinking("1 ")]
        assert splitter.feed(" 2") == [Thinking("< 2")]
        assert splitter.feed("</think> 3") == [Text("3")]
        assert splitter.feed(" <") == [Text(" <")]


def go(thinking: str) -> GoTemplate:
    return GoTemplate(
        "{{ range $i, $m := .Messages }}<|{{ .Role }}|>" + thinking + "{{ .Content }}{{ end }}"
    )


class TestTags:
    @pytest.mark.parametrize(
        ("template", "tags"),
        [
            (go("{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}"), USUAL_TAGS),
            (
                go("{{ if and .Thinking $.IsThinkSet }}\n<a>\n{{ .Thinking }}\n</a>\n{{ end }}"),
                Tags("<a>", "</a>"),
            ),
            (go("{{ if $m.Thinking }}<b>{{ $m.Thinking }}</b>{{ end }}"), Tags("<b>", "</b>")),
            (go("[THINK]{{ .Thinking }}[/THINK]"), Tags("[THINK]", "[/THINK]")),
            (
                GoTemplate("[THINK][/THINK] {{ .Thinking }} {{ .Prompt }}"),
                Tags("[THINK]", "[/THINK]"),
            ),
            (GoTemplate("{{ .Prompt }}"), USUAL_TAGS),
            (
                JinjaTemplate("{# <|START_THINKING|> <|END_THINKING|> #}", USUAL_TOKENS),
                Tags("<|START_THINKING|>", "<|END_THINKING|>"),
            ),
            (
                JinjaTemplate("<|turn>model\n<|channel>thought\n<channel|>", USUAL_TOKENS),
                Tags("<|channel>thought", "<channel|>"),
            ),
            (JinjaTemplate("{{ enable_thinking }}", USUAL_TOKENS), USUAL_TAGS),
            (
                JinjaTemplate(
                    "{% for m in messages %}{% if m.thinking %}{{ '<|open|>' ~ 'think<|sep|>' }}"
                    "{{ m.thinking }}{{ '<|close|>' ~ 'think<|sep|>' }}{% endif %}{{ m.content }}"
                    "{% endfor %}",
                    USUAL_TOKENS,
                ),
                Tags("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
            ),
        ],
    )
    def test_they_are_told_by_the_template(self, template: Any, tags: Tags) -> None:
        assert thinking_tags(template) == tags

    @pytest.mark.parametrize("prompt", ["<|assistant|><think>", "<|assistant|><think>\n"])
    def test_a_prompt_that_opens_them_is_noticed(self, prompt: str) -> None:
        parser = reply_parser(go(""), prompt, think=True)
        assert summary(parts(parser, ["hm</think>yes"])) == [("thinks", "hm"), "yes"]


TEMPLATE = """{{ range .Messages }}<|{{ .Role }}|>
{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}
{{ end }}{{ if $.IsThinkSet }}[think {{ $.Think }} {{ $.ThinkLevel }}]{{ end }}<|assistant|>
"""
REPLY = "<think>\nThe sky, the sky … it's blue 🌍.\n</think>\n\nBlue, because it's blue."
THOUGHT, ANSWER = "The sky, the sky … it's blue 🌍.\n", "Blue, because it's blue."
QUESTION = [{"role": "user", "content": "What is the sky?"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("thinking")
    with running_server(folder) as server:
        server.add("thinker", write_parrot(folder / "parrot.gguf", REPLY), template=TEMPLATE)
        opened = TEMPLATE.rstrip() + "<think>\n"
        server.add("opened", write_parrot(folder / "rest.gguf", REPLY[8:]), template=opened)
        server.create("plain", "thinker", template="{{ .Prompt }}\n")
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[ollama.Client]:
    with ollama.Client(host=server.host) as client:
        yield client


class TestServer:
    def test_the_model_can_think(self, client: ollama.Client) -> None:
        assert "thinking" in (client.show("thinker").capabilities or [])
        assert "thinking" not in (client.show("plain").capabilities or [])

    @pytest.mark.parametrize("model", ["thinker", "opened"])
    @pytest.mark.parametrize("think", [True, "low"])
    def test_chat(self, model: str, think: Any, client: ollama.Client) -> None:
        message = client.chat(model, QUESTION, think=think).message
        assert (message.thinking, message.content) == (THOUGHT, ANSWER)
        pieces = [p.message for p in client.chat(model, QUESTION, think=think, stream=True)]
        assert "".join(piece.thinking or "" for piece in pieces) == THOUGHT
        assert "".join(piece.content or "" for piece in pieces) == ANSWER
        thinks = [bool(piece.thinking) for piece in pieces]
        assert thinks == sorted(thinks, reverse=True)
        assert not any(piece.thinking and piece.content for piece in pieces)

    @pytest.mark.parametrize("model", ["thinker", "opened"])
    def test_generate(self, model: str, client: ollama.Client) -> None:
        reply = client.generate(model, "What is the sky?", think=True)
        assert (reply.thinking, reply.response) == (THOUGHT, ANSWER)
        pieces = list(client.generate(model, "What is the sky?", think=True, stream=True))
        assert "".join(piece.thinking or "" for piece in pieces) == THOUGHT
        assert "".join(piece.response or "" for piece in pieces) == ANSWER
        assert pieces[-1].context == reply.context

    @pytest.mark.parametrize("think", [None, False])
    def test_without_think_the_reply_is_left_as_it_is(
        self, think: Think, server: RunningServer
    ) -> None:
        asked: dict[str, Any] = {} if think is None else {"think": think}
        answer = server.post(
            "/api/chat", model="thinker", messages=QUESTION, stream=False, **asked
        ).json()
        assert answer["message"] == {"role": "assistant", "content": REPLY}
        answer = server.post(
            "/api/generate", model="thinker", prompt="?", stream=False, **asked
        ).json()
        assert (answer["response"], "thinking" in answer) == (REPLY, False)

    @pytest.mark.parametrize(
        ("think", "shown"),
        [(True, "[think true ]"), (False, "[think false ]"), ("high", "[think true high]")],
    )
    def test_the_template_knows(self, think: Think, shown: str, server: RunningServer) -> None:
        talk = [
            *QUESTION,
            {"role": "assistant", "content": "blue", "thinking": "hm"},
            {"role": "user", "content": "sure?"},
        ]
        answer = server.post(
            "/api/chat", model="thinker", messages=talk, think=think, _debug_render_only=True
        ).json()
        prompt = answer["_debug_info"]["rendered_template"]
        assert "<|assistant|>\n<think>hm</think>blue\n" in prompt
        assert shown in prompt

    @pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
    def test_a_model_that_can_not_think_refuses(self, path: str, server: RunningServer) -> None:
        asked = {"messages": QUESTION, "prompt": "?", "think": True}
        answer = server.post(path, model="plain", **asked)
        assert answer.status == 400
        error = "registry.ollama.ai/library/plain:latest does not support thinking"
        assert answer.json() == {"error": error}
        asked["think"] = False
        assert server.post(path, model="plain", **asked).status == 200
