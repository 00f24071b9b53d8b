"""What a model answers to generate and chat, from a real server with tiny models.

All models here have the same weights, so one runner serves them. ``TestDifferences`` has what
Ollama answers otherwise.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.models import write_model
from tests.support.server import RunningServer, running_server

PROMPT = "Once upon a time there was"
GREEDY = {"temperature": 0, "num_predict": 24}
CONTEXT = 512

#: Tags around every message, so that a rendered prompt shows what went into it.
TAGGED = "{{ range .Messages }}[{{ .Role }}: {{ .Content }}]{{ end }}"
OLDER = "{{ if .System }}({{ .System }}) {{ end }}Q: {{ .Prompt }} A: {{ .Response }}."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("inference")
    with running_server(folder) as server:
        server.add("tiny", write_model(folder / "tiny.gguf", n_ctx=CONTEXT))
        server.create("tagged", "tiny", template=TAGGED)
        server.create("older", "tiny", template=OLDER)
        server.create("fim", "tiny", template="<PRE>{{ .Prompt }}<SUF>{{ .Suffix }}<MID>")
        server.create(
            "mario",
            "tagged",
            system="You are Mario.",
            parameters={"temperature": 0, "num_predict": 3, "stop": ["\n"]},
            messages=[
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": "Wahoo"},
            ],
        )
        yield server


def generate(server: RunningServer, prompt: str = PROMPT, **request: Any) -> dict[str, Any]:
    """The reply of a request that doesn't stream, greedy unless it says otherwise."""
    request = {"model": "tiny", "prompt": prompt, "options": GREEDY, "stream": False, **request}
    answer = server.post("/api/generate", **request)
    assert answer.status == 200, answer.text
    reply: dict[str, Any] = answer.json()
    return reply


def chat(server: RunningServer, *messages: str, **request: Any) -> dict[str, Any]:
    """Messages as ``role: content``."""
    request = {"model": "tiny", "options": GREEDY, "stream": False, **request}
    answer = server.post("/api/chat", messages=spoken(*messages), **request)
    assert answer.status == 200, answer.text
    reply: dict[str, Any] = answer.json()
    return reply


def spoken(*messages: str) -> list[dict[str, str]]:
    parts = [message.partition(": ") for message in messages]
    return [{"role": role, "content": content} for role, _, content in parts]


def rendered(reply: dict[str, Any]) -> str:
    return str(reply["_debug_info"]["rendered_template"])


class TestStreaming:
    @pytest.mark.parametrize(
        "options", [GREEDY, {"seed": 7, "temperature": 1.5, "num_predict": 24}], ids=str
    )
    def test_a_stream_has_the_text_of_the_whole_answer(
        self, options: dict[str, Any], server: RunningServer
    ) -> None:
        whole = generate(server, options=options)
        request = {"model": "tiny", "prompt": PROMPT, "options": options}
        *pieces, last = server.post("/api/generate", **request).lines()
        assert len(pieces) > 1
        assert "".join(piece["response"] for piece in pieces) == whole["response"]
        assert (last["response"], last["context"]) == ("", whole["context"])
        assert [piece["done"] for piece in pieces] == [False] * len(pieces)

    def test_a_chat_streams_the_same_message(self, server: RunningServer) -> None:
        whole = chat(server, f"user: {PROMPT}")
        request = {"model": "tiny", "messages": spoken(f"user: {PROMPT}"), "options": GREEDY}
        *pieces, last = server.post("/api/chat", **request).lines()
        text = "".join(piece["message"]["content"] for piece in pieces)
        assert {"role": "assistant", "content": text} == whole["message"]
        assert last["message"] == {"role": "assistant", "content": ""}
        assert last["eval_count"] == whole["eval_count"] == 24

    def test_a_stream_to_http_1_0_comes_without_chunks_and_ends_with_the_connection(
        self, server: RunningServer
    ) -> None:
        """Chunks are of HTTP/1.1: an older client would take their lengths for the body's text."""
        request = json.dumps({"model": "tiny", "prompt": PROMPT, "options": GREEDY}).encode()
        head, _, body = server.spoken_to(
            b"POST /api/generate HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(request) + request
        ).partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head
        *pieces, last = [json.loads(line) for line in body.splitlines()]
        assert "".join(piece["response"] for piece in pieces) == generate(server)["response"]
        assert last["done"]

    def test_http_1_0_is_told_the_length_of_what_has_one(self, server: RunningServer) -> None:
        said = server.spoken_to(b"GET /api/version HTTP/1.0\r\n\r\n")
        head, _, body = said.partition(b"\r\n\r\n")
        assert f"content-length: {len(body)}".encode() in head

    def test_a_seed_makes_a_reply_repeatable(self, server: RunningServer) -> None:
        def written(seed: int) -> str:
            options = {"seed": seed, "temperature": 2.0, "num_predict": 24}
            return str(generate(server, options=options)["response"])

        assert written(1) == written(1) != written(2)


class TestLength:
    @pytest.mark.parametrize("count", [0, 1, 7])
    def test_num_predict_is_the_number_of_tokens(self, count: int, server: RunningServer) -> None:
        reply = generate(server, options={**GREEDY, "num_predict": count})
        assert (reply["eval_count"], reply["done_reason"]) == (count, "length")
        assert bool(reply["response"]) == bool(count)

    def test_minus_two_writes_until_the_context_is_full(self, server: RunningServer) -> None:
        reply = generate(server, options={**GREEDY, "num_predict": -2, "num_ctx": 64})
        # The last token is written but not read, so it needs no room.
        assert reply["prompt_eval_count"] + reply["eval_count"] == 64 + 1
        assert reply["done_reason"] == "length"

    def test_minus_one_goes_on_beyond_it_for_ten_contexts(self, server: RunningServer) -> None:
        reply = generate(server, options={**GREEDY, "num_predict": -1, "num_ctx": 64})
        assert reply["eval_count"] == 10 * 64

    def test_a_context_that_may_not_shift_ends_the_reply(self, server: RunningServer) -> None:
        reply = generate(server, options={**GREEDY, "num_predict": -1, "num_ctx": 64}, shift=False)
        assert reply["prompt_eval_count"] + reply["eval_count"] == 64 + 1

    def test_a_stop_string_ends_the_reply_and_is_not_part_of_it(
        self, server: RunningServer
    ) -> None:
        text = generate(server)["response"]
        stop = text[12:15]
        options = {**GREEDY, "stop": ["never there", stop]}
        reply = generate(server, options=options)
        assert reply["response"] == text[: text.index(stop)]
        assert reply["done_reason"] == "stop"
        pieces = server.post("/api/generate", model="tiny", prompt=PROMPT, options=options).lines()
        assert "".join(piece["response"] for piece in pieces) == reply["response"]

    def test_a_prompt_that_is_too_long_loses_its_middle(self, server: RunningServer) -> None:
        reply = generate(server, prompt="one two three " * CONTEXT)
        assert reply["prompt_eval_count"] == CONTEXT

    @pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
    def test_or_is_refused_when_it_must_not_be_truncated(
        self, path: str, server: RunningServer
    ) -> None:
        text = "one two three " * CONTEXT
        content = {"prompt": text, "messages": spoken(f"user: {text}")}
        answer = server.post(path, model="tiny", truncate=False, **content)
        assert answer.status == 400
        assert answer.json() == {"error": "the input length exceeds the context length"}


class TestOptions:
    def test_those_of_the_request_win_over_those_of_the_model(self, server: RunningServer) -> None:
        assert generate(server, model="mario", options={})["eval_count"] == 3
        assert generate(server, model="mario", options={"num_predict": 5})["eval_count"] == 5

    def test_null_is_the_default(self, server: RunningServer) -> None:
        options = {"num_predict": 3, "temperature": None, "stop": None, "num_ctx": None}
        assert generate(server, options=options)["eval_count"] == 3

    def test_names_that_are_no_options_are_ignored(self, server: RunningServer) -> None:
        assert generate(server, options={**GREEDY, "wibble": [1]}) is not None

    @pytest.mark.parametrize(
        "options",
        [
            {"repeat_last_n": 2**31 - 1},
            {"top_k": 2**31 - 1},
            {"top_k": 1, "top_p": 0, "min_p": 2, "typical_p": 0},
            {"temperature": 1e38},
            {"repeat_penalty": 0},
            {"frequency_penalty": -1e38, "presence_penalty": 1e38},
            {"mirostat": 2, "mirostat_tau": 0, "mirostat_eta": 1e9},
            {"num_keep": 2**31 - 1},
            {"stop": [""]},
            {"seed": -(2**63)},
            {"num_ctx": 1},
            {"num_batch": 1},
        ],
        ids=str,
    )
    def test_extreme_values_do_no_harm(
        self, options: dict[str, Any], server: RunningServer
    ) -> None:
        reply = generate(server, options={"num_predict": 3, **options})
        assert reply["eval_count"] == 3


class TestPrompt:
    """``_debug_render_only`` answers with the prompt instead of running it."""

    def test_generate_is_a_turn_of_the_model_s_template(self, server: RunningServer) -> None:
        reply = generate(server, "why?", model="older", _debug_render_only=True)
        assert rendered(reply) == "Q: why? A: "
        assert (reply["model"], reply["response"], reply["done"]) == ("older", "", False)

    def test_with_the_model_s_system_and_messages(self, server: RunningServer) -> None:
        reply = generate(server, "why?", model="mario", _debug_render_only=True)
        opening = "[system: You are Mario.][user: hi][assistant: Wahoo]"
        assert rendered(reply) == opening + "[user: why?]"

    def test_system_and_template_of_the_request_win(self, server: RunningServer) -> None:
        request = {"model": "mario", "system": "Be Luigi.", "_debug_render_only": True}
        system = "[system: Be Luigi.][user: hi][assistant: Wahoo]"
        assert rendered(generate(server, "why?", **request)) == system + "[user: why?]"
        request["template"] = OLDER
        assert rendered(generate(server, "why?", **request)) == (
            "(Be Luigi.) Q: hi A: Wahoo.Q: why? A: "
        )

    def test_raw_is_the_prompt_and_nothing_else(self, server: RunningServer) -> None:
        debug = generate(server, PROMPT, model="mario", raw=True, _debug_render_only=True)
        assert rendered(debug) == PROMPT
        raw = generate(server, PROMPT, model="mario", raw=True, options=GREEDY)
        plain = generate(server, PROMPT)
        assert raw["response"] == plain["response"]
        assert "context" not in raw

    def test_a_suffix_fills_a_gap(self, server: RunningServer) -> None:
        reply = generate(server, "a =", model="fim", suffix="+ 1", _debug_render_only=True)
        assert rendered(reply) == "<PRE>a =<SUF>+ 1<MID>"

    def test_a_suffix_has_no_place_in_a_raw_prompt(self, server: RunningServer) -> None:
        """As in Ollama, it is left out; the model must know what to do with one all the same."""
        raw = {"suffix": "+ 1", "raw": True, "_debug_render_only": True}
        assert rendered(generate(server, "a =", model="fim", **raw)) == "a ="
        answer = server.post("/api/generate", model="tiny", prompt="a =", **raw)
        assert (answer.status, answer.json()["error"]) == (
            400,
            "registry.ollama.ai/library/tiny:latest does not support insert",
        )

    def test_chat_is_the_whole_conversation(self, server: RunningServer) -> None:
        talk = ("user: a", "assistant: b", "user: c")
        reply = chat(server, *talk, model="tagged", _debug_render_only=True)
        assert rendered(reply) == "[user: a][assistant: b][user: c]"
        reply = chat(server, *talk, model="older", _debug_render_only=True)
        assert rendered(reply) == "Q: a A: b.Q: c A: "

    def test_chat_begins_with_the_model_s_system_and_messages(self, server: RunningServer) -> None:
        reply = chat(server, "user: why?", model="mario", _debug_render_only=True)
        opening = "[system: You are Mario.][user: hi][assistant: Wahoo]"
        assert rendered(reply) == opening + "[user: why?]"

    def test_unless_it_opens_with_a_system_message_of_its_own(self, server: RunningServer) -> None:
        talk = ("system: Be Luigi.", "user: why?")
        reply = chat(server, *talk, model="mario", _debug_render_only=True)
        assert rendered(reply) == ("[user: hi][assistant: Wahoo][system: Be Luigi.][user: why?]")

    def test_the_oldest_messages_go_when_a_chat_is_too_long(self, server: RunningServer) -> None:
        turns = [
            f"{role}: {number} {'word ' * 20}"
            for number in range(20)
            for role in ("user", "assistant")
        ]
        talk = ("system: stay", *turns, "user: last")
        prompt = rendered(chat(server, *talk, model="tagged", _debug_render_only=True))
        assert prompt.startswith("[system: stay]")
        assert prompt.endswith("[user: last]")
        assert "[assistant: 19 " in prompt
        assert "[user: 0 " not in prompt
        count = generate(server, prompt, raw=True)["prompt_eval_count"]
        assert CONTEXT - 200 < count <= CONTEXT
        all_of_it = rendered(
            chat(server, *talk, model="tagged", truncate=False, _debug_render_only=True)
        )
        assert "[user: 0 " in all_of_it


class TestLongPrompts:
    """A prompt that was cut says by how many tokens."""

    LONG = "word " * CONTEXT

    def test_the_text_of_a_completion(self, server: RunningServer) -> None:
        whole = server.post("/api/generate", model="tiny", prompt=self.LONG, truncate=False)
        assert (whole.status, whole.json()["error"]) == (
            400,
            "the input length exceeds the context length",
        )
        reply = generate(server, self.LONG, options={"num_predict": 1})
        assert reply["prompt_eval_count"] == CONTEXT
        assert reply["prompt_dropped_count"] > CONTEXT

    def test_the_oldest_messages_of_a_chat(self, server: RunningServer) -> None:
        """What is left and what is gone make up the whole, which another request counts."""
        talk = (f"user: {self.LONG}", f"assistant: {self.LONG}", "user: why?")
        whole = rendered(chat(server, *talk, truncate=False, _debug_render_only=True))
        counted = generate(server, whole, raw=True, options={"num_predict": 0})
        reply = chat(server, *talk, options={"num_predict": 0})
        assert reply["prompt_eval_count"] < 20
        assert total(reply) == total(counted)

    def test_both(self, server: RunningServer) -> None:
        talk = ("user: " + "old " * 300, f"user: {self.LONG}")
        alone = chat(server, talk[1], options={"num_predict": 0})
        both = chat(server, *talk, options={"num_predict": 0})
        assert both["prompt_eval_count"] == alone["prompt_eval_count"] == CONTEXT
        assert total(both) > total(alone) + 300

    def test_one_that_fits_says_nothing(self, server: RunningServer) -> None:
        assert "prompt_dropped_count" not in generate(server)
        assert "prompt_dropped_count" not in chat(server, "user: why?")

    def test_the_messages_of_the_model_go_first(self, server: RunningServer) -> None:
        request = {"model": "mario", "_debug_render_only": True}
        assert "Wahoo" in rendered(generate(server, "why?", **request))
        assert "Wahoo" not in rendered(generate(server, self.LONG, **request))
        assert "Wahoo" in rendered(generate(server, self.LONG, truncate=False, **request))
        assert "Wahoo" in rendered(generate(server, self.LONG, template=TAGGED, **request))

    @pytest.mark.parametrize("shift", [True, False])
    def test_a_full_context_ends_a_reply_that_must_not_shift(
        self, shift: bool, server: RunningServer
    ) -> None:
        options = {"temperature": 0, "num_predict": CONTEXT + 10}
        reply = generate(server, PROMPT, shift=shift, options=options)
        assert reply["done_reason"] == "length"
        assert (reply["eval_count"] == CONTEXT + 10) is shift


def total(reply: dict[str, Any]) -> int:
    """The tokens of the prompt, those that were dropped included."""
    count: int = reply["prompt_eval_count"] + reply.get("prompt_dropped_count", 0)
    return count


class TestContext:
    def test_it_is_the_prompt_and_the_reply_as_tokens(self, server: RunningServer) -> None:
        reply = generate(server)
        # BOS is read but not part of the conversation.
        assert len(reply["context"]) == reply["prompt_eval_count"] - 1 + reply["eval_count"]

    def test_going_on_from_it_equals_one_longer_prompt(self, server: RunningServer) -> None:
        first = generate(server, "Once upon a time", options={"num_predict": 0})
        second = generate(server, "there was", context=first["context"])
        whole = generate(server, "Once upon a time there was", raw=True)
        assert second["response"] == whole["response"]
        assert second["prompt_eval_count"] == whole["prompt_eval_count"]
        assert second["context"][: len(first["context"])] == first["context"]

    def test_it_grows_with_every_turn(self, server: RunningServer) -> None:
        first = generate(server, "Once")
        second = generate(server, "more", context=first["context"])
        new = generate(server, "more", options={"num_predict": 0})["context"]
        start = first["context"] + new
        assert second["context"][: len(start)] == start
        assert second["prompt_eval_count"] == 1 + len(start)

    def test_the_model_s_own_messages_are_in_it_already(self, server: RunningServer) -> None:
        first = generate(server, "why?", model="mario")
        request = {"model": "mario", "context": first["context"], "_debug_render_only": True}
        assert rendered(generate(server, "how?", **request)) == (
            "[system: You are Mario.][user: how?]"
        )


class TestHistory:
    def test_a_conversation_read_before_gets_the_same_answer(self, server: RunningServer) -> None:
        talk = [f"user: {PROMPT}"]
        for question in ("and then?", "why?"):
            message = chat(server, *talk)["message"]
            talk += [f"assistant: {message['content']}", f"user: {question}"]
        remembered = chat(server, *talk)
        server.post("/api/generate", model="tiny", keep_alive=0)
        assert "tiny:latest" not in server.loaded()
        fresh = chat(server, *talk)
        assert fresh["message"] == remembered["message"]
        assert fresh["prompt_eval_count"] == remembered["prompt_eval_count"]


class TestFigures:
    def test_they_add_up(self, server: RunningServer) -> None:
        server.post("/api/generate", model="tiny", keep_alive=0)
        first, second = generate(server), chat(server, f"user: {PROMPT}")
        assert first["load_duration"] > 0
        assert second["load_duration"] == 0
        for reply in (first, second):
            parts = ("load_duration", "prompt_eval_duration", "eval_duration")
            assert all(reply[part] >= 0 for part in parts)
            assert reply["total_duration"] >= sum(reply[part] for part in parts)
            assert (reply["eval_count"], reply["prompt_eval_count"]) == (24, 7)
            assert reply["eval_duration"] > 0


class TestDifferences:
    """Where Ollama's answer is a defect."""

    def test_num_predict_0_writes_nothing(self, server: RunningServer) -> None:
        reply = chat(server, f"user: {PROMPT}", options={"num_predict": 0})
        assert (reply["message"]["content"], reply["eval_count"]) == ("", 0)
        assert (reply["done_reason"], reply["prompt_eval_count"]) == ("length", 7)

    def test_an_unknown_role_is_refused(self, server: RunningServer) -> None:
        answer = server.post("/api/chat", model="tiny", messages=spoken("wizard: hi"))
        assert answer.status == 400
        assert answer.json()["error"].startswith('invalid role: "wizard"')

    @pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
    def test_images_that_the_model_can_not_see_are_refused(
        self, path: str, server: RunningServer
    ) -> None:
        image = base64.b64encode(b"\x89PNG").decode()
        message = {"role": "user", "content": "what is this?", "images": [image]}
        content = {"prompt": "what is this?", "images": [image], "messages": [message]}
        answer = server.post(path, model="tiny", **content)
        assert answer.status == 400
        assert answer.json()["error"].endswith("does not support images")
