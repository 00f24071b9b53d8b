"""Templates come from strangers: whatever they say, they end soon, in text or a TemplateError."""

from __future__ import annotations

import sys
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llamaherd.errors import TemplateError
from llamaherd.prompt import go_exec, go_parse
from llamaherd.prompt.go_limits import Meter
from llamaherd.prompt.go_printf import sprintf
from llamaherd.prompt.go_values import GoList, GoMap, GoStruct

SMALL: dict[str, object] = {
    "S": "héllo \udcff",
    "N": 3,
    "F": 1.5,
    "T": True,
    "Nil": None,
    "L": ["a", 1, None, [2.5]],
    "M": {"k": "v", "z": {"a": 1}},
    "B": b"\x00\xff",
    "X": GoStruct("T", {"S": "s", "L": GoList(nil=True), "M": GoMap({"S": 1}, text="{}")}),
}
DATA = SMALL | {
    "Text": "a" * 100_000,
    "Wide": "é" * 100_000,
    "Many": list(range(10_000)),
    "Map": {str(number): number for number in range(10_000)},
}


def render(template: str) -> str:
    return go_exec.execute(go_parse.parse(template), DATA)


@pytest.mark.parametrize(
    "template",
    [
        "{{" + "(" * 5000 + "1" + ")" * 5000 + "}}",
        "{{" + "(print " * 200 + "1" + ")" * 200 + "}}",
        "{{if 1}}" * 5000 + "{{end}}" * 5000,
        "{{if 0}}" + "{{else if 0}}" * 5000 + "{{end}}",
        "{{range .L}}" * 200 + "{{end}}" * 200,
        '{{block "b" .}}' * 200 + "{{end}}" * 200,
    ],
)
def test_deep_nesting_does_not_parse(template: str) -> None:
    with pytest.raises(TemplateError, match="nested more than 100 deep"):
        go_parse.parse(template)


def test_nesting_within_the_bound_runs() -> None:
    assert render("{{if 1}}" * 100 + "x" + "{{end}}" * 100) == "x"
    assert render("{{" + "(print " * 98 + "1" + ")" * 98 + "}}") == "1"
    assert render("{{if 1}}" * 50 + "{{" + "(print " * 50 + "1" + ")" * 50 + "}}" + "{{end}}" * 50)


@pytest.mark.parametrize(
    "template",
    [
        '{{define "a"}}{{template "a"}}{{end}}{{template "a"}}',
        '{{define "a"}}{{range 2}}{{with 1}}{{template "b"}}{{end}}{{end}}{{end}}'
        '{{define "b"}}{{if 1}}{{template "a"}}{{end}}{{end}}{{template "b"}}',
    ],
)
def test_endless_recursion_ends(template: str) -> None:
    with pytest.raises(TemplateError, match="exceeded maximum template depth"):
        render(template)


def test_a_caller_deep_in_the_stack_gets_a_template_error() -> None:
    template = go_parse.parse("{{if 1}}" * 90 + "{{end}}" * 90)

    def at_the_bottom(frames: int) -> None:
        if frames:
            at_the_bottom(frames - 1)
        else:
            go_exec.execute(template, {})

    depth = 0
    frame = sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        depth += 1
    with pytest.raises(TemplateError, match="nested too deeply"):
        at_the_bottom(sys.getrecursionlimit() - depth - 100)


@pytest.mark.parametrize(
    "template",
    [
        "{{range 10000}}{{range 10000}}{{end}}{{end}}",
        "{{range 99999}}{{range $.Map}}{{break}}{{end}}{{end}}",
        "{{range 99999}}{{if eq $.Text $.Text}}{{end}}{{end}}",
        "{{range 99999}}{{len $.Wide}}{{end}}",
        '{{printf "' + "%[" * 400_000 + '"}}',
    ],
)
def test_endless_work_ends(template: str) -> None:
    with pytest.raises(TemplateError, match="takes more than 1000000 steps"):
        render(template)


@pytest.mark.parametrize(
    "template",
    [
        '{{$x := "ab"}}{{range 100}}{{$x = print $x $x}}{{end}}',
        "{{range 10000}}{{$.Text}}{{end}}",
        "{{range 10000}}{{$x := html $.Text}}{{end}}",
        '{{printf "' + "%999999d" * 99 + '"' + " 1" * 99 + "}}",
        '{{range 99}}{{$x := printf "%.9999999f" 1.5}}{{end}}',
    ],
)
def test_endless_output_ends(template: str) -> None:
    with pytest.raises(TemplateError, match="output is longer than 33554432 characters"):
        render(template)


def test_an_endless_template_is_refused() -> None:
    with pytest.raises(TemplateError, match="longer than 1048576 characters"):
        go_parse.parse("x" * (1024 * 1024 + 1))


# Whatever the text

VOCABULARY = r"""
    {{ }} {{- -}} if else end range with define template block break continue nil true
    and or not eq lt len index slice print printf println json html js urlquery call
    . $ $x $x:= $x= $i, .S .N .F .T .Nil .L .M .B .X .X.L .M.z.a .L.x ( ) | ,
    0 1 -1 2.5 1i 'a' 0x1F `t` "t" "%v" "%[2]*.3q" "%+d" "\xff"
    {{/* */}} {{if {{end}} {{else}} {{range {{break}} é"""
WORDS = st.sampled_from(VOCABULARY.split())
templates = st.lists(WORDS | st.text(max_size=3), max_size=30).map(" ".join)
actions = st.lists(WORDS, max_size=8).map(lambda words: "{{" + " ".join(words) + "}}")


@settings(deadline=None, max_examples=300)
@given(st.text() | templates | actions)
@example("{{$")
@example("{{$x,")
@example("{{.")
@example("{{'")
def test_any_text_parses_and_runs_or_is_a_template_error(text: str) -> None:
    with suppress(TemplateError):
        template = go_parse.parse(text)
        go_parse.identifiers(template)
        with suppress(TemplateError):
            go_exec.execute(template, DATA).encode()
        go_exec.execute(go_parse.cut_after_field(template, "S"), DATA).encode()


VALUES = st.sampled_from([*SMALL.values(), "x", -7, 10**18, 1j, float("nan"), "", (), {}])
VERBS = st.sampled_from("%%%%vdsqxXgGeEfFtTcUbopOzw[]123*.+-# 0é")


@settings(deadline=None, max_examples=300)
@given(st.lists(VERBS, max_size=12).map("".join), st.lists(VALUES, max_size=4))
def test_any_format_prints_any_values(format_: str, values: list[object]) -> None:
    with suppress(TemplateError):
        sprintf(format_, values, Meter(text=100_000)).encode("utf-8", "surrogateescape")
