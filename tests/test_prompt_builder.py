"""From messages to prompts: as a real Ollama renders them, and what holds for any conversation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.errors import BadRequest, TemplateError
from llamaherd.llama.loader import ModelSpec, load
from llamaherd.messages import Message, Think, Tool, ToolCall, ToolCallFunction
from llamaherd.prompt.builder import Prompt, chat_prompt, generate_prompt, run
from llamaherd.prompt.jinja import JinjaTemplate
from llamaherd.prompt.template import USUAL_TOKENS, GoTemplate, PromptTemplate, Values
from tests.support.models import write_model

DATA: dict[str, Any] = json.loads(
    (Path(__file__).parent / "data" / "rendered-prompts.json").read_text()
)

#: What an image takes in these tests.
IMAGE_SIZE = 768

Count = Callable[[Prompt], int]

CHATML = "{{ range .Messages }}<{{ .Role }}>{{ .Content }}</{{ .Role }}>{{ end }}<assistant>"
LEGACY = (
    "{{ if .System }}<system>{{ .System }}</system>{{ end }}"
    "{{ if .Prompt }}<user>{{ .Prompt }}</user>{{ end }}"
    "<assistant>{{ .Response }}</assistant>"
)


def characters(prompt: Prompt) -> int:
    """Characters stand for tokens where the tokenizer doesn't matter."""
    return len(prompt.text) + IMAGE_SIZE * len(prompt.images)


def user(content: str, **more: Any) -> Message:
    return Message(role="user", content=content, **more)


def assistant(content: str, **more: Any) -> Message:
    return Message(role="assistant", content=content, **more)


def system(content: str) -> Message:
    return Message(role="system", content=content)


def rendered(text: str, *messages: Message, tools: list[Tool] | None = None) -> str:
    return GoTemplate(text).render(Values(messages=messages, tools=tools or []))


@pytest.fixture(scope="module")
def count(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Count]:
    """Tokens of a prompt in the vocabulary of stories260K, with which the goldens were recorded."""
    path = write_model(tmp_path_factory.mktemp("model") / "tiny.gguf")
    spec = ModelSpec(model=path, n_ctx=64, n_slots=1, n_batch=64, threads=1, gpu_layers=0)
    backend = load(spec, lambda fraction: None).backend

    def tokens(prompt: Prompt) -> int:
        return len(backend.vocabulary.tokenize(prompt.text, add_special=True, parse_special=True))

    yield tokens
    backend.close()


# --- goldens ------------------------------------------------------------------------------------


def model_of_golden(name: str) -> tuple[GoTemplate, str, list[Message]]:
    """Template, default system message and default messages."""
    templates = DATA["templates"]
    if name == "sys":
        return GoTemplate(templates["llama3-messages"]), "From the model.", []
    if name == "msgs":
        return GoTemplate(templates["chatml-legacy"]), "S", [user("q0"), assistant("a0")]
    return GoTemplate(templates[name]), "", []


def build_golden(name: str, case: str, count: Count) -> Prompt:
    template, own_system, defaults = model_of_golden(name)
    if case == "gen-raw":
        return run(generate_prompt(None, "Hi {{ x }}", limit=4096), count)
    if case.startswith("gen"):
        building = generate_prompt(
            GoTemplate("<{{ .Prompt }}>") if case == "gen-template" else template,
            "Hi",
            limit=4096,
            system="Sys." if case == "gen-sys" else own_system,
            defaults=defaults,
        )
        return run(building, count)
    request = DATA["requests"][case]
    building = chat_prompt(
        template,
        msgspec.convert(request["messages"], list[Message]),
        limit=request.get("options", {}).get("num_ctx", 4096),
        tools=msgspec.convert(request.get("tools", []), list[Tool]),
        system=own_system,
        defaults=defaults,
    )
    return run(building, count)


@pytest.mark.parametrize(
    "golden",
    DATA["results"],
    ids=[f"{result['model']}-{result['case']}" for result in DATA["results"]],
)
def test_prompts_are_those_of_ollama(golden: dict[str, str], count: Count) -> None:
    prompt = build_golden(golden["model"], golden["case"], count)
    assert prompt.text == golden["rendered"]


# --- templates ----------------------------------------------------------------------------------


def test_neighbours_of_a_role_become_one_message() -> None:
    messages = [user("a"), user("b"), assistant("c"), assistant("d"), user("e")]
    assert rendered(CHATML, *messages) == (
        "<user>a\n\nb</user><assistant>c\n\nd</assistant><user>e</user><assistant>"
    )


def test_joined_messages_keep_their_tool_calls() -> None:
    call = ToolCall(ToolCallFunction(name="f", arguments={}))
    text = (
        "{{ range .Messages }}{{ .Content }}"
        "{{ range .ToolCalls }}{{ .Function.Name }}{{ end }}{{ end }}"
    )
    assert rendered(text, assistant("x"), assistant("y", tool_calls=[call])) == "x\n\nyf"


def test_results_of_tools_stay_apart() -> None:
    results = [
        Message(role="tool", content=content, tool_name=name) for name, content in ("ab", "cd")
    ]
    text = "{{ range .Messages }}{{ .ToolName }}={{ .Content }};{{ end }}"
    assert rendered(text, *results) == "a=b;c=d;"


def test_a_legacy_template_is_run_turn_by_turn() -> None:
    messages = [system("s"), user("a"), assistant("b"), user("c")]
    assert rendered(LEGACY, *messages) == (
        "<system>s</system><user>a</user><assistant>b</assistant><user>c</user><assistant>"
    )


def test_a_legacy_template_leaves_out_what_tools_said() -> None:
    messages = [user("a"), assistant("b"), Message(role="tool", content="t"), assistant("c")]
    assert rendered(LEGACY, *messages) == "<user>a</user><assistant>b\n\nc"


def test_an_empty_reply_costs_a_legacy_template_no_question() -> None:
    messages = [user("a"), assistant(""), user("b")]
    assert rendered(LEGACY, *messages) == (
        "<user>a</user><assistant></assistant><user>b</user><assistant>"
    )


def test_a_template_without_response_gets_it_at_the_end() -> None:
    messages = [user("a"), assistant("b"), user("c")]
    assert rendered("[{{ .Prompt }}]", *messages) == "[a]b[c]"


def test_a_suffix_is_filled_in_between() -> None:
    template = GoTemplate("<pre>{{ .Prompt }}<suf>{{ .Suffix }}<mid>{{ .Response }}")
    prompt = run(generate_prompt(template, "def f(", suffix="return x", limit=10), characters)
    assert prompt.text == "<pre>def f(<suf>return x<mid>"
    assert template.capabilities == {"insert"}


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        pytest.param(
            "<PRE> {{ .Prompt }} <SUF>{{ .Suffix }} <MID>",
            "<PRE> def f( <SUF>return x <MID>",
            id="codellama",
        ),
        pytest.param(
            "{{- if .Suffix }}<|fim_prefix|>{{ .Prompt }}<|fim_suffix|>{{ .Suffix }}<|fim_middle|>"
            "{{- else if .Messages }}{{ range .Messages }}<|im_start|>{{ .Role }}\n"
            "{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n{{ end }}",
            "<|fim_prefix|>def f(<|fim_suffix|>return x<|fim_middle|>",
            id="qwen2.5-coder",
        ),
        pytest.param(
            "{{- if .Suffix }}<fim_prefix>{{ .Prompt }}<fim_suffix>{{ .Suffix }}<fim_middle>\n"
            "{{- else }}{{ .Prompt }}{{ end }}",
            "<fim_prefix>def f(<fim_suffix>return x<fim_middle>",
            id="starcoder2",
        ),
        pytest.param(
            "{{- if .Suffix }}<｜fim▁begin｜>{{ .Prompt }}<｜fim▁hole｜>{{ .Suffix }}<｜fim▁end｜>"
            "{{- else }}{{ if .System }}{{ .System }}\n\n{{ end }}User: {{ .Prompt }}\n\n"
            "Assistant: {{ end }}{{ .Response }}",
            "<｜fim▁begin｜>def f(<｜fim▁hole｜>return x<｜fim▁end｜>",
            id="deepseek-coder-v2",
        ),
    ],
)
def test_the_families_ways_of_filling_in(template: str, filled: str) -> None:
    parsed = GoTemplate(template)
    assert "insert" in parsed.capabilities
    prompt = run(generate_prompt(parsed, "def f(", suffix="return x", limit=10), characters)
    assert prompt.text == filled


@pytest.mark.parametrize(
    ("think", "expected"),
    [
        (None, "false false ''"),
        (True, "true true ''"),
        (False, "true false ''"),
        ("low", "true true 'low'"),
    ],
)
def test_templates_see_whether_to_think(think: Think, expected: str) -> None:
    shown = "{{ .IsThinkSet }} {{ .Think }} '{{ .ThinkLevel }}'"
    for text in (shown, "{{ if .Messages }}{{ end }}" + shown):
        template = GoTemplate(text)
        assert template.render(Values(messages=[user("x")], think=think)) == expected


@pytest.mark.parametrize(
    ("text", "capabilities"),
    [
        ("{{ .Prompt }}", set()),
        ("{{ range .Messages }}{{ .Thinking }}{{ end }}", {"thinking"}),
        ("{{ if $.Tools }}{{ end }}", {"tools"}),
        ("{{ .Suffix }}{{ with $x := .Tools }}{{ end }}", {"insert", "tools"}),
    ],
)
def test_capabilities_show_in_the_identifiers(text: str, capabilities: set[str]) -> None:
    assert GoTemplate(text).capabilities == capabilities


def test_a_template_that_does_not_parse_is_an_error() -> None:
    with pytest.raises(TemplateError, match="unclosed action"):
        GoTemplate("{{ .Prompt")


# --- tools as values ----------------------------------------------------------------------------

NESTED_TOOL = Tool(
    type="function",
    function={
        "name": "order",
        "parameters": {
            "type": "object",
            "$defs": {"n": 1},
            "properties": {
                "what": {"anyOf": [{"type": "string"}, {"type": "null"}], "minLength": 3},
                "how": {
                    "type": ["object", "null"],
                    "properties": {"z": {"type": "integer", "enum": [1, 2]}, "a": {}},
                    "required": ["z"],
                },
                "all": {"type": "array", "items": {"type": "string"}},
            },
        },
    },
)


def test_tools_turn_into_json_as_ollamas_types_do() -> None:
    assert rendered("{{ json .Tools }}{{ .Messages }}", tools=[NESTED_TOOL]).startswith(
        '[{"type":"function","function":{"name":"order","description":"","parameters":'
        '{"type":"object","$defs":{"n":1},"properties":{'
        '"all":{"type":"array","items":{"type":"string"}},'
        '"how":{"type":["object","null"],'
        '"properties":{"z":{"type":"integer","enum":[1,2]},"a":{}},"required":["z"]},'
        '"what":{"anyOf":[{"type":"string"},{"type":"null"}]}}}}}]'
    )


def test_a_template_can_read_the_properties_of_a_tool() -> None:
    text = (
        "{{ range .Tools }}{{ .Function.Parameters.Type }}:"
        "{{ range $name, $p := .Function.Parameters.Properties }}"
        " {{ $name }}({{ $p.Type }}){{ end }}"
        "{{ end }}{{ .Messages }}"
    )
    assert rendered(text, tools=[NESTED_TOOL]).startswith(
        "object: all(array) how([object null]) what()"
    )


def test_arguments_of_calls_print_as_json() -> None:
    arguments = {"b": 1, "a": [1.5, {"x": None}], "c": "<é>"}
    call = ToolCall(ToolCallFunction(name="f", arguments=arguments, index=2), id="c1")
    text = "{{ range .Messages }}{{ range .ToolCalls }}{{ .ID }} {{ .Function }}{{ end }}{{ end }}"
    assert rendered(text, assistant("", tool_calls=[call])) == (
        'c1 {2 f {"a":[1.5,{"x":null}],"b":1,"c":"\\u003cé\\u003e"}}'
    )


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        ({"name": 3}, "function.name must be a string"),
        ({"name": "f", "parameters": []}, "function.parameters must be an object"),
        ({"parameters": {"required": "x"}}, "function.parameters.required must be a list"),
        ({"parameters": {"properties": {"p": 1}}}, "function.parameters.properties.p must be"),
        (
            {"parameters": {"properties": {"p": {"type": [1]}}}},
            "properties.p.type must be a string or a list of strings",
        ),
        ({"parameters": {"properties": {"p": {"anyOf": [3]}}}}, "properties.p.anyOf[0] must be"),
    ],
)
def test_a_tool_of_wrong_types_is_refused_with_the_place(
    function: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(BadRequest) as refusal:
        rendered("{{ .Tools }}{{ .Messages }}", tools=[Tool(type="function", function=function)])
    assert complaint in str(refusal.value)


# --- building -----------------------------------------------------------------------------------


def chat(
    *messages: Message,
    limit: int | None = None,
    template: PromptTemplate | None = None,
    **more: Any,
) -> Prompt:
    return run(
        chat_prompt(template or GoTemplate(CHATML), messages, limit=limit, **more), characters
    )


@pytest.mark.parametrize("role", ["", "USER", "developer", "function"])
def test_a_role_that_does_not_exist_is_refused(role: str) -> None:
    with pytest.raises(BadRequest, match=r"must be one of \[system user assistant tool\]"):
        chat(Message(role=role, content="x"))


def test_the_models_system_message_gives_way_to_an_opening_one() -> None:
    assert chat(user("x"), system="own").text.startswith("<system>own</system><user>")
    assert chat(system("mine"), user("x"), system="own").text.startswith("<system>mine</system>")


def test_what_fits_is_counted_once() -> None:
    counted: list[Prompt] = []

    def count_and_note(prompt: Prompt) -> int:
        counted.append(prompt)
        return characters(prompt)

    messages = [user("a"), assistant("b"), user("c")] * 20
    prompt = run(chat_prompt(GoTemplate(CHATML), messages, limit=10_000), count_and_note)
    assert counted == [prompt]
    assert prompt.dropped == 0


def test_a_long_conversation_is_fitted_with_few_counts() -> None:
    counts = 0

    def count_and_note(prompt: Prompt) -> int:
        nonlocal counts
        counts += 1
        return characters(prompt)

    messages = [user("a"), assistant("b")] * 500 + [user("c")]
    run(chat_prompt(GoTemplate(CHATML), messages, limit=700), count_and_note)
    assert counts <= 11


def test_without_a_limit_nothing_is_counted_or_dropped() -> None:
    with pytest.raises(StopIteration) as end:
        next(chat_prompt(GoTemplate(CHATML), [user("x" * 100)], limit=None))
    assert end.value.value.dropped == 0


@pytest.mark.parametrize(
    ("content", "segments"),
    [
        ("what?", ["", 0, 1, "what?"]),
        ("[img] or [img]?", ["", 0, " or ", 1, "?"]),
        ("[img] only", ["", 1, 0, " only"]),
        ("[img], [img], [img]", ["", 0, ", ", 1, ", [img]"]),
        ("first [img-1], then [img-0]", ["first ", 1, ", then ", 0]),
        ("[img-0] and [img-0] again", ["", 1, 0, " and [img-0] again"]),
        ("[img-7] [img-01]", ["", 0, 1, "[img-7] [img-01]"]),
    ],
)
def test_every_image_stands_in_one_place(content: str, segments: list[str | int]) -> None:
    building = generate_prompt(None, content, limit=None, images=[b"0", b"1"])
    assert run(building, characters).segments() == segments


def test_many_images_and_much_text_take_no_time() -> None:
    content = "[img-" * 200_000 + "[img]" * 20_000
    prompt = run(generate_prompt(None, content, limit=None, images=[b"image"] * 40_000), characters)
    assert len([each for each in prompt.segments() if isinstance(each, int)]) == 40_000


def test_images_are_tagged_and_those_of_dropped_messages_left_out() -> None:
    messages = [
        user("old", images=[b"0"]),
        assistant("fine"),
        user("left [img] right", images=[b"1", b"2"]),
    ]
    assert chat(*messages).text == (
        "<user>[img-0]old</user><assistant>fine</assistant>"
        "<user>[img-2]left [img-1] right</user><assistant>"
    )
    fitted = chat(*messages, limit=2 * IMAGE_SIZE + 100)
    assert fitted.images == (b"1", b"2")
    assert fitted.text.endswith("<user>[img-1]left [img-0] right</user><assistant>")
    assert fitted.dropped == 1


#: Refuses, as Gemma's and Mistral's do, conversations that don't begin with a user.
USER_FIRST = (
    "{% for m in messages %}{% if loop.first and m.role != 'user' %}"
    "{{ raise_exception('user first') }}{% endif %}{{ m.content }} {% endfor %}"
)


@pytest.mark.parametrize("limit", range(4, 14))
def test_dropping_skips_beginnings_that_the_template_refuses(limit: int) -> None:
    messages = [user("a"), assistant("b"), user("c"), assistant("d"), user("e")]
    expected = next(text for text in ("a b c d e ", "c d e ", "e ") if len(text) <= limit)
    template = JinjaTemplate(USER_FIRST, USUAL_TOKENS)
    assert chat(*messages, limit=limit, template=template).text == expected


def test_a_conversation_that_the_template_refuses_at_any_length_is_kept_whole() -> None:
    messages = [user("a" * 50), assistant("b", tool_calls=[ToolCall(ToolCallFunction("f", {}))])]
    prompt = chat(*messages, limit=10, template=JinjaTemplate(USER_FIRST, USUAL_TOKENS))
    assert prompt.dropped == 0


ROLES = st.sampled_from(["system", "user", "assistant", "tool"])
CONVERSATIONS = st.lists(
    st.builds(Message, role=ROLES, content=st.text("abc ", max_size=8)), min_size=1, max_size=12
)

#: Of messages that say something. Where an empty one goes, its neighbours may become one message,
#: and that can be longer, by what joins them.
TALKS = st.lists(
    st.builds(Message, role=ROLES, content=st.text("abc", min_size=1, max_size=8)),
    min_size=1,
    max_size=12,
)


def linear_scan(template: PromptTemplate, messages: list[Message], limit: int) -> str:
    """What Ollama does: try without the first 0, 1, 2, … messages until the rest fits."""
    for start in range(len(messages)):
        kept = [message for message in messages[:start] if message.role == "system"]
        text = template.render(Values(messages=[*kept, *messages[start:]]))
        if len(text) <= limit:
            break
    return text


@given(TALKS, st.sampled_from([CHATML, LEGACY]), st.integers(0, 200))
@settings(max_examples=150, deadline=None)
def test_any_conversation_is_fitted_as_a_linear_scan_would(
    messages: list[Message], text: str, limit: int
) -> None:
    template = GoTemplate(text)
    prompt = chat(*messages, limit=limit, template=template)
    assert prompt.text == linear_scan(template, messages, limit)


@given(CONVERSATIONS, st.integers(0, 200))
@settings(max_examples=150, deadline=None)
def test_system_messages_and_the_last_stay_in_order(messages: list[Message], limit: int) -> None:
    numbered = [
        msgspec.structs.replace(message, content=f"#{number}:{message.content}")
        for number, message in enumerate(messages)
    ]
    prompt = chat(*numbered, limit=limit, template=GoTemplate(CHATML))
    kept = [number for number in range(len(numbered)) if f"#{number}:" in prompt.text]
    assert kept == sorted(kept, key=lambda number: prompt.text.index(f"#{number}:"))
    assert kept[-1] == len(numbered) - 1
    assert {n for n, message in enumerate(numbered) if message.role == "system"} <= set(kept)
    assert prompt.dropped == len(numbered) - len(kept)
    others = [n for n in kept if numbered[n].role != "system" and n != len(numbered) - 1]
    assert len(prompt.text) <= limit or not others
