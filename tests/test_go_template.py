"""Go's text/template: what templates print, how they fail, and what hostile ones may cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaherd.errors import TemplateError
from llamaherd.prompt import go_exec, go_json, go_parse
from llamaherd.prompt.go_values import GoList, GoMap, GoStruct, from_json

REFERENCE = json.loads((Path(__file__).parent / "data/go-template.json").read_text())


def render(template: str, /, **data: object) -> str:
    return go_exec.execute(go_parse.parse(template), data)


def failure(template: str, /, **data: object) -> str:
    with pytest.raises(TemplateError) as caught:
        render(template, **data)
    return str(caught.value)


# What Go itself prints


def reference_tool(tool: dict[str, Any]) -> GoStruct:
    function, parameters = tool["Function"], tool["Function"]["Parameters"]
    properties = GoMap(
        {
            name: GoStruct("Property", {**member, "Enum": reference_list(member["Enum"])})
            for name, member in (parameters["Properties"] or {}).items()
        },
        nil=parameters["Properties"] is None,
    )
    fields = {
        "Type": parameters["Type"],
        "Required": reference_list(parameters["Required"]),
        "Properties": properties,
    }
    text = go_json.marshal({"function": function["Name"], "type": tool["Type"]})
    inner = GoStruct("Function", {**function, "Parameters": GoStruct("Parameters", fields)})
    return GoStruct("Tool", {"Type": tool["Type"], "Function": inner}, text=text)


def reference_message(message: dict[str, Any]) -> GoStruct:
    calls = []
    for call in message.get("ToolCalls", []):
        arguments = GoMap(from_json_object(call["Function"]["Arguments"]))
        arguments.text = go_json.marshal(arguments)
        function = GoStruct("Function", {**call["Function"], "Arguments": arguments})
        calls.append(GoStruct("ToolCall", {"Function": function}))
    return GoStruct(
        "*Message",
        {
            "Role": message["Role"],
            "Content": message["Content"],
            "Thinking": message.get("Thinking", ""),
            "Images": reference_list(None),
            "ToolCalls": GoList(calls, type_name="[]ToolCall", nil=not calls),
            "ToolName": message.get("ToolName", ""),
        },
    )


def reference_list(items: list[object] | None) -> GoList:
    return GoList(items or (), nil=items is None)


def from_json_object(members: dict[str, object]) -> dict[str, object]:
    return {name: from_json(member) for name, member in members.items()}


def reference_data() -> dict[str, object]:
    data: dict[str, Any] = dict(REFERENCE["data"])
    tools = [reference_tool(tool) for tool in data["Tools"]]
    data["Tools"] = GoList(tools, type_name="Tools", text=go_json.marshal(tools))
    data["Messages"] = GoList(map(reference_message, data["Messages"]), type_name="[]*Message")
    return data


@pytest.mark.parametrize("case", REFERENCE["cases"], ids=lambda case: case["template"][:60])
def test_the_engine_prints_and_fails_as_go_does(case: dict[str, Any]) -> None:
    if "fails" not in case:
        assert render(case["template"], **reference_data()) == case["output"]
        return
    if case["fails"] == "execute":
        go_parse.parse(case["template"])
    assert failure(case["template"], **reference_data()) == case["error"]


# Text, comments, trimming


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ("a {{- 1 -}} b", "a1b"),
        ("a \n\t{{- /* gone */ -}}\r\n b", "ab"),
        ("a {{/* }} */}} b", "a  b"),
        ("{{-3}}", "-3"),
        ("{{3 -}}  x  {{- 4}}", "3x4"),
        ("{{`-}}` -}} x", "-}}x"),
        ("{{\n1\n}}", "1"),
        ("}} { {{`{{`}}", "}} { {{"),
        ("日本 {{- `語`}}", "日本語"),
    ],
)
def test_text_and_trimming(template: str, output: str) -> None:
    assert render(template) == output


@given(st.text(" \t\r\n", max_size=5), st.text(" \t\r\n", max_size=5))
def test_markers_trim_all_white_space_and_nothing_else(left: str, right: str) -> None:
    assert render("a" + left + "{{- `b` -}}" + right + "c") == "abc"
    assert render("a" + left + "{{`b`}}" + right + "c") == "a" + left + "b" + right + "c"


# Control


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ("{{range $k, $v := .M}}{{$k}}{{$v}} {{end}}", "a1 b2 c3 "),
        ("{{range .None}}x{{else}}empty{{end}}", "empty"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ("{{range 0}}x{{else}}none{{end}}", "none"),
        ("{{range 9}}{{if eq . 2}}{{break}}{{end}}{{.}}{{end}}!", "01!"),
        ("{{range 4}}{{if eq . 2}}{{continue}}{{end}}{{.}}{{end}}", "013"),
        ("{{range 2}}{{range 2}}{{break}}{{end}}{{.}}{{end}}", "01"),
        ("{{$i := 9}}{{$x := 9}}{{range $i, $x = .L}}{{end}}{{$i}}{{$x}}", "1q"),
        ("{{with $x := 5}}{{$x}}{{.}}{{end}}", "55"),
        ("{{with 0}}a{{else with 0}}b{{else}}c{{end}}", "c"),
        ("{{if 0}}a{{else if 0.0}}b{{else if ``}}c{{else}}d{{end}}", "d"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
        ("{{$x := 1}}{{range 2}}{{$x = .}}{{end}}{{$x}}", "1"),
        ('{{define "t"}}<{{.}}{{$}}>{{end}}{{template "t" 1}}{{template "t"}}', "<11>"
         "<<no value><no value>>"),
        ('{{block "b" 7}}[{{.}}]{{end}}{{template "b" 8}}', "[7][8]"),
        ('{{define "a"}} {{end}}{{define "a"}}x{{end}}{{template "a"}}', "x"),
        ('{{define "f"}}{{if .}}{{len .}}{{template "f" (slice . 1)}}{{end}}{{end}}'
         '{{template "f" .L}}', "21"),
    ],
)  # fmt: skip
def test_control_structures(template: str, output: str) -> None:
    assert render(template, M={"b": 2, "c": 3, "a": 1}, L=["p", "q"], None_=None) == output


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("\n{{if 1}}\n", ":3: unexpected EOF"),
        ("{{break}}", ":1: {{break}} outside {{range}}"),
        ("{{range 1}}{{else}}{{continue}}{{end}}", ":1: {{continue}} outside {{range}}"),
        ('{{range 1}}{{block "x" .}}{{break}}{{end}}{{end}}', ":1: {{break}} outside {{range}}"),
        ("{{if 1}}{{else}}{{else}}{{end}}", ":1: expected end; found {{else}}"),
        ("{{with 1}}{{else if 2}}{{end}}", ":1: unexpected <if> in input"),
        ('{{define "x"}}{{else}}{{end}}', ":1: unexpected {{else}} in define clause"),
        ("{{define x}}{{end}}", ':1: unexpected "x" in define clause'),
        ('{{if 1}}{{define "x"}}{{end}}{{end}}', ":1: unexpected <define> in command"),
        ('{{define "a"}}x{{end}}{{define "a"}}y{{end}}',
         ':1: template: multiple definition of template "a"'),
        ("{{1 | 2}}", ":1: non executable command in pipeline stage 2"),
        ("{{nosuch 1}}", ':1: function "nosuch" not defined'),
        ("{{true.X}}", ':1: unexpected . after term "true"'),
        ("{{$x+1}}", ":1: bad character U+002B '+'"),
        ("{{1 é€ 2}}", ":1: bad character U+20AC '€'"),
        ("{{€}}", ":1: unrecognized character in action: U+20AC '€'"),
        ("{{1 :2}}", ":1: expected :="),
        ("{{'ab'}}", ":1: malformed character constant: 'ab'"),
        ("{{'a}}", ":1: unterminated character constant"),
        ('{{"\\q"}}', ":1: invalid syntax"),
        ("{{08}}", ':1: integer overflow: "08"'),
        ("{{1__0}}", ':1: illegal number syntax: "1__0"'),
        ("{{/* x }}", ":1: unclosed comment"),
        ("{{/* x */ }}", ":1: comment ends before closing delimiter"),
        ("{{range $x, 1 := .L}}{{end}}", ":1: range can only initialize variables"),
        ("a\n{{if\n1", ":3: unclosed action started at :2"),
        ('{{"abcdefghijklmnop" "x"=}}', ':1: unexpected "=" in operand'),
    ],
)  # fmt: skip
def test_templates_that_do_not_parse(template: str, error: str) -> None:
    assert failure(template, L=[]) == f"template: {error}"


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("{{$x = 1}}", '1:7: executing "" at <1>: undefined variable: $x'),
        ("{{.Null.X}}", '1:7: executing "" at <.Null.X>: '
         "nil pointer evaluating interface {}.X"),
        ("{{$v := .N}}{{$v.X}}", '1:16: executing "" at <$v.X>: '
         "can't evaluate field X in type int"),
        ("{{.Struct.Nope}}", '1:9: executing "" at <.Struct.Nope>: '
         "can't evaluate field Nope in type interface {}"),
        ("{{1 2}}", '1:2: executing "" at <1>: can\'t give argument to non-function 1'),
        ("{{(.N) 2}}", '1:2: executing "" at <(.N) 2>: '
         "can't give argument to non-function .N"),
        ("{{len nil}}", '1:2: executing "" at <len nil>: error calling len: '
         "reflect: call of reflect.Value.Type on zero Value"),
        ("{{len .Null}}", '1:2: executing "" at <len .Null>: '
         "error calling len: len of nil pointer"),
        ("{{index .L 2}}", '1:2: executing "" at <index .L 2>: '
         "error calling index: reflect: slice index out of range"),
        ("{{slice .S 2 1}}", '1:2: executing "" at <slice .S 2 1>: '
         "error calling slice: invalid slice index: 2 > 1"),
        ("{{slice .L .N}}", '1:2: executing "" at <slice .L .N>: '
         "error calling slice: cannot index slice/array with type interface {}"),
        ("{{index .Struct.Map .Null}}", '1:2: executing "" at <index .Struct.Map .Null>: '
         "error calling index: value is nil; should be of type string"),
        ("{{range $x := .L | $x}}{{end}}", '1:19: executing "" at <$x>: undefined variable: $x'),
        ("{{slice .S 0 1 1}}", '1:2: executing "" at <slice .S 0 1 1>: '
         "error calling slice: cannot 3-index slice a string"),
        ("{{printf .N}}", '1:9: executing "" at <.N>: '
         "wrong type for value; expected string; got int"),
        ("{{printf 1}}", '1:9: executing "" at <1>: expected string; found 1'),
        ("{{eq .S .N}}", '1:2: executing "" at <eq .S .N>: '
         "error calling eq: incompatible types for comparison: string and int"),
        ("{{eq .L .L}}", '1:2: executing "" at <eq .L .L>: '
         "error calling eq: non-comparable type [p q]: []interface {}"),
        ("{{call .N 1}}", '1:2: executing "" at <call .N 1>: '
         "error calling call: non-function .N of type int"),
        ("{{range $i, $x := 3}}{{end}}", '1:18: executing "" at <3>: '
         "can't use 3 to iterate over more than one variable"),
        ("é{{\n\n  .S.X}}", '3:4: executing "" at <.S.X>: '
         "can't evaluate field X in type interface {}"),
        ("é {{.S.X}}", '1:7: executing "" at <.S.X>: '
         "can't evaluate field X in type interface {}"),
        ('{{define "t"}}{{.X}}{{end}}{{template "t" 1}}', '1:16: executing "t" at <.X>: '
         "can't evaluate field X in type int"),
        ('{{template "t" (len .L)}}', '1:11: executing "" at '
         '<{{template "t" (len .L)}}>: template "t" not defined'),
    ],
)  # fmt: skip
def test_templates_that_fail_while_they_run(template: str, error: str) -> None:
    data: dict[str, object] = {"N": 3, "S": "héllo", "L": ["p", "q"], "Null": None}
    data["Struct"] = GoStruct("main.T", {"A": 1, "Map": {}})
    assert failure(template, **data) == f"template: :{error}"


def test_a_template_is_called_by_its_name_in_errors() -> None:
    with pytest.raises(TemplateError, match=r"^template: chat:1: unexpected EOF$"):
        go_parse.parse("{{if 1}}", "chat")
    with pytest.raises(TemplateError, match=r"^template: chat:1:4: executing \"chat\" at <\.A\.B>"):
        go_exec.execute(go_parse.parse("{{.A.B}}", "chat"), {"A": 1})


# What Ollama asks of a parsed template


def test_identifiers_are_all_fields_and_variables_in_use() -> None:
    template = go_parse.parse(
        "{{$a := .B.C}}{{range $i, $x := $.D}}{{$x.E}}{{(index .F 0).G}}{{else}}{{.H}}{{end}}"
        '{{if or .I (not .J)}}{{end}}{{define "t"}}{{.K | print .L}}{{end}}{{template "u" .M}}'
    )
    assert go_parse.identifiers(template) == {"$", "$x", *"BCDEFGHIJKLM"}


def test_identifiers_ignore_text_and_functions() -> None:
    assert go_parse.identifiers(go_parse.parse('.A {{print "{{.B}}" nil . 1}}')) == frozenset()


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ("a{{.Response}}b", "aR"),
        ("a{{ .Response -}} b{{.Other}}", "aR"),
        ("{{if .System}}s{{end}}p{{.Response}}e{{if .System}}t{{end}}{{.Response}}", "spR"),
        ("{{if .System}}a{{.Response}}b{{else}}c{{.Response}}d{{end}}e", "aR"),
        ("{{if not .System}}a{{.Response}}b{{else}}c{{.Response}}d{{end}}e", "cR"),
        ("{{range 2}}{{if $.System}}<{{end}}{{end}}{{with .Response}}{{.}}{{end}}e", "<<Re"),
        ("{{if .Response}}has {{end}}a{{.Response}}b", "has aR"),
        ("{{$r := .Response}}{{$r}}", ""),
        ('{{print "a" .Response "b"}}c', "aR"),
        ('{{print (print .Response "b") "c"}}d', "R"),
        ('{{.Response | printf "[%s]"}}c', "[R]"),
        ("{{.Message.Response}}b", "M"),
        ("no field, no cut", "no field, no cut"),
        ('{{define "t"}}[{{.}}]{{end}}{{template "t" .System}}{{.Response}}e', "[S]R"),
    ],
)
def test_a_template_is_cut_after_the_field_that_it_prints(template: str, output: str) -> None:
    cut = go_parse.cut_after_field(go_parse.parse(template), "Response")
    message = GoStruct("Message", {"Response": "M"})
    data = {"System": "S", "Response": "R", "Other": "O", "Message": message}
    assert go_exec.execute(cut, data) == output


def test_cutting_leaves_the_template_itself_whole() -> None:
    template = go_parse.parse("a{{.Response}}b")
    go_parse.cut_after_field(template, "Response")
    assert go_exec.execute(template, {"Response": "R"}) == "aRb"
