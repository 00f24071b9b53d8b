"""What a conversation sends, saves and shows, without a server."""

from __future__ import annotations

import pytest

from llamaherd.cli.repl.conversation import Conversation
from llamaherd.cli.repl.report import shown
from llamaherd.errors import BadRequest

HI = {"role": "user", "content": "hi"}
HELLO = {"role": "assistant", "content": "hello"}
BRIEF = {"role": "system", "content": "Be brief."}


def talk() -> Conversation:
    conversation = Conversation("mario")
    conversation.ask("hi")
    conversation.answer("hello")
    return conversation


def test_a_request_has_what_was_said_and_what_was_set() -> None:
    conversation = Conversation("mario", format="json", keep_alive="5m0s", think=False)
    conversation.set_parameter("temperature", ["0.5"])
    conversation.ask("hi")
    assert conversation.load_request() == {
        "model": "mario",
        "keep_alive": "5m0s",
        "think": False,
        "options": {"temperature": 0.5},
    }
    assert conversation.chat_request() == {
        **conversation.load_request(),
        "messages": [HI],
        "format": "json",
    }


def test_what_was_not_set_is_not_sent() -> None:
    assert talk().chat_request() == {"model": "mario", "messages": [HI, HELLO]}


def test_a_question_without_an_answer() -> None:
    conversation = talk()
    conversation.ask("more")
    conversation.take_back()
    conversation.ask("again")
    conversation.answer("")
    assert conversation.messages == [HI, HELLO, {"role": "user", "content": "again"}]


def test_parameters_get_their_types() -> None:
    conversation = Conversation("mario")
    for name, values in (
        ("num_ctx", ["4096"]),
        ("temperature", ["1"]),
        ("use_mmap", ["true"]),
        ("stop", ["a", "b"]),
        ("seed", ["7", "8"]),
    ):
        conversation.set_parameter(name, values)
    assert conversation.options == {
        "num_ctx": 4096,
        "temperature": 1.0,
        "use_mmap": True,
        "stop": ["a", "b"],
        "seed": 7,
    }


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("colour", "blue", r"unknown parameter 'colour'"),
        ("num_ctx", "many", r"invalid int value \[many\]"),
        ("top_p", "nan", r"invalid float value \[nan\]"),
        ("num_ctx", "-5", r"must be at least 0"),
    ],
)
def test_parameters_that_can_not_be_are_refused(name: str, value: str, error: str) -> None:
    conversation = Conversation("mario")
    with pytest.raises(BadRequest, match=error):
        conversation.set_parameter(name, [value])
    assert conversation.options == {}


def test_a_system_message_counts_from_where_it_was_set() -> None:
    conversation = talk()
    conversation.set_system("Be long.")
    conversation.set_system("Be brief.")
    assert conversation.messages == [HI, HELLO, BRIEF]
    conversation.clear()
    assert conversation.messages == [BRIEF]


def test_clearing_without_a_system_message_leaves_nothing() -> None:
    conversation = talk()
    conversation.clear()
    assert conversation.messages == []


class TestSaving:
    def test_all_that_was_said_is_saved_with_what_the_model_began_with(self) -> None:
        conversation = talk()
        conversation.stored = [{"role": "user", "content": "first"}]
        conversation.set_parameter("stop", ["x"])
        assert conversation.create_request("luigi") == {
            "model": "luigi",
            "from": "mario",
            "parameters": {"stop": ["x"]},
            "messages": [{"role": "user", "content": "first"}, HI, HELLO],
        }

    def test_nothing_said_leaves_the_models_messages_as_they_are(self) -> None:
        assert Conversation("mario", stored=[HI]).create_request("luigi") == {
            "model": "luigi",
            "from": "mario",
        }

    def test_a_system_message_at_the_beginning_is_saved_once(self) -> None:
        conversation = Conversation("mario")
        conversation.set_system("Be brief.")
        assert conversation.create_request("luigi") == {
            "model": "luigi",
            "from": "mario",
            "system": "Be brief.",
        }
        conversation.ask("hi")
        assert conversation.create_request("luigi")["messages"] == [HI]

    def test_a_system_message_in_the_middle_stays_there(self) -> None:
        conversation = talk()
        conversation.set_system("Be brief.")
        request = conversation.create_request("luigi")
        assert request["system"] == "Be brief."
        assert request["messages"] == [HI, HELLO, BRIEF]

    @pytest.mark.parametrize("name", ["mario", "Mario:latest", "library/mario"])
    def test_a_model_saved_under_its_own_name_has_what_was_said(self, name: str) -> None:
        conversation = talk()
        conversation.saved_as("luigi")
        assert conversation.messages == [HI, HELLO]
        conversation.saved_as(name)
        conversation.ask("more")
        assert conversation.chat_request()["messages"] == [{"role": "user", "content": "more"}]
        more = {"role": "user", "content": "more"}
        assert conversation.create_request("luigi")["messages"] == [HI, HELLO, more]


class TestAnotherModel:
    def test_begins_a_new_conversation_with_the_same_settings(self) -> None:
        conversation = talk()
        conversation.set_system("Be brief.")
        conversation.set_parameter("seed", ["1"])
        other = conversation.with_model("luigi", {"messages": [HI]})
        assert other == Conversation("luigi", stored=[HI], options={"seed": 1})
        assert conversation.messages == [HI, HELLO, BRIEF]

    @pytest.mark.parametrize(
        ("capabilities", "think"), [(["completion"], None), (["thinking"], True), (None, None)]
    )
    def test_thinks_if_it_can_and_nobody_said_otherwise(
        self, capabilities: list[str] | None, think: bool | None
    ) -> None:
        information = {"capabilities": capabilities}
        conversation = Conversation("mario", think=True)
        assert conversation.with_model("luigi", information).think is think
        conversation.set_think(False)
        assert conversation.with_model("luigi", information).think is False


@pytest.mark.parametrize(
    ("part", "model", "text"),
    [
        ("license", {"license": "MIT"}, "MIT\n"),
        ("license", {}, "No license was specified for this model.\n"),
        ("template", {"template": "{{ .Prompt }}"}, "{{ .Prompt }}\n"),
        ("template", {}, "No prompt template was specified for this model.\n"),
        ("modelfile", {"modelfile": "FROM x"}, "FROM x\n"),
        ("system", {"system": "You are Mario."}, "You are Mario.\n\n"),
        ("system", {}, "No system message was specified for this model.\n"),
        (
            "parameters",
            {},
            "Model defined parameters:\n"
            "  No additional parameters were specified for this model.\n\n",
        ),
    ],
)
def test_what_is_shown_of_a_model(part: str, model: dict[str, object], text: str) -> None:
    assert shown(part, model, system="", options={}) == text


def test_what_the_session_has_of_its_own_is_shown() -> None:
    assert shown("system", {"system": "x"}, system="Be brief.", options={}) == "Be brief.\n\n"
    options = {"stop": ["a", "b"], "num_ctx": 512, "use_mmap": True, "temperature": 1.0}
    report = shown("parameters", {"parameters": "seed 1\ntop_k 2"}, system="", options=options)
    assert report == (
        "Model defined parameters:\n  seed 1\n  top_k 2\n\n"
        "User defined parameters:\n"
        f"  {'num_ctx':30} 512\n"
        f"  {'stop':30} [a b]\n"
        f"  {'temperature':30} 1\n"
        f"  {'use_mmap':30} true\n\n"
    )
