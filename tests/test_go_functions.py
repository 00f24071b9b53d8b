"""The functions of Go templates and how Go prints values: fmt, encoding/json, strconv."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.errors import PromptError, TemplateError
from llamaherd.prompt import go_exec, go_json, go_parse
from llamaherd.prompt.go_limits import Meter
from llamaherd.prompt.go_literals import unquote
from llamaherd.prompt.go_print import sprint
from llamaherd.prompt.go_printf import sprintf
from llamaherd.prompt.go_text import quote
from llamaherd.prompt.go_values import GoList, GoMap, GoStruct, from_json

STRINGER = GoStruct("main.S", {"N": 3}, text="<S>")


def render(template: str, /, **data: object) -> str:
    return go_exec.execute(go_parse.parse(template), data)


def printf(format_: str, *values: object) -> str:
    return sprintf(format_, values, Meter())


# Functions


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ("{{and 1 0 .Nope.X}}{{or 0 2 .Nope.X}}", "02"),
        ("{{0 | or 0}}{{2 | and 1}}", "02"),
        ("{{not nil}} {{not .E}} {{not 1}}", "true true false"),
        ("{{len .S}} {{len .L}} {{len .M}} {{len .E}}", "6 3 1 0"),
        ("{{index .S 1}} {{index .L 1}} {{index .M `k`}} {{index .M `no`}}", "195 b v <no value>"),
        ("{{index .LL 1 0}} {{index .L}}", "3 [a b c]"),
        ('{{printf "%T %c" (index .S 0) (index .S 0)}}', "uint8 h"),
        ("{{eq (index .S 0) 104}} {{lt (index .S 0) 105}}", "true true"),
        (
            "{{slice .S 1 3}} {{slice .L 1}} {{slice .L 0 2}} {{slice .L 1 2 3}}",
            "é [b c] [a b] [b]",
        ),
        ("{{slice .S 1 2}}{{slice .S 2 3}}", "é"),
        ("{{slice .S 1 2}}|", "\ufffd|"),
        ("{{eq 1 2 1}} {{eq `a` `a`}} {{eq nil .Null}} {{eq .L nil}}", "true true true false"),
        ("{{eq .NilList nil}} {{eq .Null 1}} {{ne .Null `x`}}", "true false true"),
        ("{{lt `a` `b`}} {{le 1 1}} {{gt 1.5 1.0}} {{ge `b` `a`}}", "true true true true"),
        ("{{eq .Struct .Struct}} {{eq .Struct .Other}}", "true false"),
        ("{{.Null}} {{print .Null}} {{html .Null}}", "<no value> <nil> &lt;no value&gt;"),
        ("{{.Named.String}} {{.Named}} {{json .Named}} {{.Named.k}}", '{text} {text} {"k":1} 1'),
        ('{{js "a<b>\'\\n\\u00e9\\U000e0001"}}', "a\\u003Cb\\u003E\\'\\u000Aé\\uE0001"),
        ('{{html `<a href="x">\'&` 1 2}}', "&lt;a href=&#34;x&#34;&gt;&#39;&amp;1 2"),
        ("{{urlquery `a b/é~`}}", "a+b%2F%C3%A9~"),
        ("{{json 1i}}|", "|"),
        ('{{"x" | printf "%s-%s" "y"}} {{"plain" | printf}}', "y-x plain"),
    ],
)
def test_functions(template: str, output: str) -> None:
    data: dict[str, object] = {"S": "héllo", "L": ["a", "b", "c"], "LL": [[1, 2], [3]], "E": []}
    data |= {"M": {"k": "v"}, "Null": None, "NilList": GoList(nil=True)}
    data |= {"Struct": STRINGER, "Other": GoStruct("main.S", {"N": 3})}
    data |= {"Named": GoMap({"k": 1}, text="{text}", type_name="main.M")}
    assert render(template, **data) == output


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ("{{0x_1F}} {{0b11}} {{0o17}} {{017}} {{1_000}} {{+5}} {{-0}}", "31 3 15 15 1000 5 0"),
        ("{{1e3}} {{.5}} {{1.}} {{0x1p4}} {{1e-7}} {{1_0.5}}", "1000 0.5 1 16 1e-07 10.5"),
        ("{{'a'}} {{'\\''}} {{'\\xff'}} {{'\\u00e9'}} {{'日'}}", "97 39 255 233 26085"),
        ("{{2i}} {{1+2i}} {{-1.5-0.5i}}", "(0+2i) (1+2i) (-1.5-0.5i)"),
        ('{{"\\101\\x42\\u0043\\U00000044\\xc3\\xa9"}}', "ABCDé"),
        ("{{`a\r\nb`}}", "a\nb"),
        ("{{9223372036854775807}} {{-9223372036854775808}}",
         "9223372036854775807 -9223372036854775808"),
    ],
)  # fmt: skip
def test_literals(template: str, output: str) -> None:
    assert render(template) == output


@given(st.text())
def test_quoting_a_text_gives_its_literal(text: str) -> None:
    plain = text.encode("utf-8", "replace").decode()
    assert unquote(quote(plain)) == plain
    assert unquote(quote(plain, ascii_only=True)) == plain
    assert quote(plain, ascii_only=True).isascii()


# fmt


@pytest.mark.parametrize(
    ("values", "output"),
    [
        (("a", 1, 2, "b", "c", 3.0, None), "a1 2bc3 <nil>"),
        ((None, None), "<nil> <nil>"),
        (([], {}, [None], {"b": 1, "a": []}), "[] map[] [<nil>] map[a:[] b:1]"),
        ((GoStruct("T", {"A": 1, "B": "x", "C": None}),), "{1 x <nil>}"),
        ((GoStruct("T", {"A": STRINGER}), [STRINGER]), "{<S>} [<S>]"),
        ((GoList([1], text="list"), GoMap({"a": 1}, text="map")), "list map"),
        ((b"ab", True, 1j), "[97 98] true (0+1i)"),
        ((100000.0, 1000000.0, 123456789.0, 1e20), "100000 1e+06 1.23456789e+08 1e+20"),
        ((0.0001, 0.00001, -0.0, 5e-324), "0.0001 1e-05 -0 5e-324"),
        ((math.inf, -math.inf, math.nan), "+Inf -Inf NaN"),
    ],
)
def test_values_in_their_default_format(values: tuple[object, ...], output: str) -> None:
    assert sprint(values, Meter()) == output


@pytest.mark.parametrize(
    ("format_", "value", "output"),
    [
        ("%6.2f|", 3.14159, "  3.14|"),
        ("%-8s|", "日本", "日本      |"),
        ("%08.3f", -3.14159, "-003.142"),
        ("%+d|% d", 7, "+7|%!d(MISSING)"),
        ("%.2s", "日本語", "日本"),
        ("%.3d", 7, "007"),
        ("%6.0d|", 0, "      |"),
        ("%#x", 255, "0xff"),
        ("%#X", -255, "-0XFF"),
        ("%#o", 8, "010"),
        ("%O", 8, "0o10"),
        ("%#b", 5, "0b101"),
        ("%x", "hi", "6869"),
        ("% #X", "hi", "0X68 0X69"),
        ("%x", b"\xff", "ff"),
        ("%c|%3c", 26085, "日|%!c(MISSING)"),
        ("%c", -1, "\ufffd"),
        ("%q", 39, r"'\''"),
        ("%#U", 0x263A, "U+263A '☺'"),
        ("%08q", "a", '00000"a"'),
        ("%+q", "é", r'"\u00e9"'),
        ("%#q", "a\tb", "`a\tb`"),
        ("%#q", "a`b", '"a`b"'),
        ("%e", 1234.5678, "1.234568e+03"),
        ("%G", 1e-10, "1E-10"),
        ("%.3g", 1234.5678, "1.23e+03"),
        ("%#g", 1.0, "1.00000"),
        ("%x", 1.5, "0x1.8p+00"),
        ("%.1x", 1.97, "0x1.0p+01"),
        ("%b", 1.0, "4503599627370496p-52"),
        ("%v", [1, "a", None], "[1 a <nil>]"),
        ("%d", [1, [2, 3]], "[1 [2 3]]"),
        ("%5d|", [1, 2], "[    1     2]|"),
        ("%s", [1, "a"], "[%!s(int=1) a]"),
        ("%+v", GoStruct("T", {"A": 1, "B": STRINGER}), "{A:1 B:<S>}"),
        ("%#v", GoStruct("T", {"A": 1, "B": None}), "T{A:1, B:interface {}(nil)}"),
        ("%#v", ["a", 1.0, True], '[]interface {}{"a", 1, true}'),
        ("%#v", {"k": [None]}, 'map[string]interface {}{"k":[]interface {}{interface {}(nil)}}'),
        ("%#v", GoList(type_name="[]string", nil=True), "[]string(nil)"),
        ("%#v", b"\x01", "[]byte{0x1}"),
        ("%T", {"a": 1}, "map[string]interface {}"),
        ("%d", STRINGER, "{3}"),
        ("%x", STRINGER, "3c533e"),
        ("%z", 1, "%!z(int=1)"),
        ("%d", "a", "%!d(string=a)"),
        ("%d", None, "%!d(<nil>)"),
        ("%!", 1, "%!!(int=1)"),
        ("%t", 1, "%!t(int=1)"),
        ("100%", 1, "100%!(NOVERB)%!(EXTRA int=1)"),
    ],
)
def test_one_value_under_a_verb(format_: str, value: object, output: str) -> None:
    assert printf(format_, value) == output


@pytest.mark.parametrize(
    ("format_", "values", "output"),
    [
        ("%s %s", ("a",), "a %!s(MISSING)"),
        ("%s", ("a", 1, None), "a%!(EXTRA int=1, <nil>)"),
        ("%[2]s %[1]s", ("a", "b"), "b a"),
        ("%[1]d %[1]x", (10,), "10 a"),
        ("%[3]d", (1, 2), "%!d(BADINDEX)"),
        ("%[x]d %d", (1, 2), "%!d(BADINDEX) 1"),
        ("%*d|%-*d|", (4, 1, 4, 1), "   1|1   |"),
        ("%.*f", (2, 3.14159), "3.14"),
        ("%*d", ("x", 5), "%!(BADWIDTH)5"),
        ("%.*d", (-1, 5), "%!(BADPREC)5"),
        ("%[3]*.[2]*[1]f|", (12.0, 2, 6), " 12.00|"),
        ("%99999999999d", (1,), "%!(NOVERB)%!(EXTRA int=1)"),
        ("%*d", (1_000_001, 5), "%!(BADWIDTH)5"),
    ],
)
def test_formats_that_take_several_values(
    format_: str, values: tuple[object, ...], output: str
) -> None:
    assert printf(format_, *values) == output


# JSON


@pytest.mark.parametrize(
    ("value", "output"),
    [
        ({"b": 1, "a": [None, True, "x"]}, '{"a":[null,true,"x"],"b":1}'),
        ([1.0, 1.5, 1e21, 1e20, 1e-6, 1e-7, -0.0],
         "[1,1.5,1e+21,100000000000000000000,0.000001,1e-7,-0]"),
        ("<a&b>\u2028\x01\n\"\\\x7fé", '"\\u003ca\\u0026b\\u003e\\u2028\\u0001\\n\\"\\\\\x7fé"'),
        ("\udcff", '"\ufffd"'),
        (b"hi", '"aGk="'),
        ([GoList(), GoList(nil=True), GoMap(), GoMap(nil=True)], "[[],null,{},null]"),
        (GoStruct("T", {"B": 1, "A": {"d": 1, "c": 2}}), '{"B":1,"A":{"c":2,"d":1}}'),
        (GoStruct("T", {"B": 1}, text="t", json={"z": 1, "b": 2}), '{"z":1,"b":2}'),
    ],
)  # fmt: skip
def test_json(value: object, output: str) -> None:
    assert go_json.marshal(value) == output


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('a<"é\n'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab&\u2029"), inner),
    max_leaves=10,
)


@settings(deadline=None)
@given(json_values)
def test_json_reads_back_as_the_value(value: object) -> None:
    assert json.loads(go_json.marshal(value), parse_int=float) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, 1j])
def test_what_json_cannot_hold_is_an_error(value: object) -> None:
    with pytest.raises(go_json.Unsupported, match="json: unsupported"):
        go_json.marshal([value])


def test_decoded_json_becomes_what_go_decodes() -> None:
    value = from_json({"n": 3, "list": [True, None, "x", 2**53]})
    assert value == {"n": 3.0, "list": [True, None, "x", 2.0**53]}
    assert render("{{.V.n}} {{.V.big}}", V=from_json({"n": 3, "big": 10**7})) == "3 1e+07"


@pytest.mark.parametrize(
    ("value", "error"),
    [(10**400, "beyond the range of float64"), (json.loads("[" * 500 + "]" * 500), "nested")],
)
def test_json_that_no_template_can_hold_is_refused(value: object, error: str) -> None:
    with pytest.raises(PromptError, match=error):
        from_json(value)


def test_a_value_of_a_foreign_python_type_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError, match="can't use a value of Python type set"):
        render("{{len .X}}", X={1})


@pytest.mark.parametrize("show", [lambda v: sprint([v], Meter()), go_json.marshal])
def test_a_value_that_contains_itself_is_an_error(show: object) -> None:
    endless: list[object] = []
    endless.append(endless)
    assert callable(show)
    with pytest.raises(TemplateError, match="nested more than"):
        show(endless)
