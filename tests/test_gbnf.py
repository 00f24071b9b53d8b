"""Grammars as llama.cpp writes them: what it takes is taken, and means the same."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.engine.gbnf import plain
from llamaherd.errors import FormatError
from llamaherd.formats import MAX_BYTES
from llamaherd.grammar import Grammar
from tests.support.forms import derives


def gbnf(text: str) -> Grammar:
    return Grammar("grammar", text)


@pytest.mark.parametrize(
    ("grammar", "right", "wrong"),
    [
        (r'root ::= "\u00e9\U0001F600\x41"', ["é😀A"], ["é😀B"]),
        (r"root ::= [\U0001F600-\U0001F64F\u00e9]", ["😀", "🙏", "é"], ["a", "U"]),
        (r'root ::= "\x00\x0b\n\t\"\\[]/" [\[\]\\]', ['\0\x0b\n\t"\\[]/]'], ['\0\x0b\n\t"\\[]/a']),
        ('root ::= "a\nb"', ["a\nb"], ["ab"]),
        ("root ::= [a&&b]", ["a", "b", "&"], ["&&", "c"]),
        ("root ::= [ab~~]", ["b", "~"], ["~~"]),
        ("root ::= [+--]", ["+", ",", "-"], ["."]),
        ("root ::= [-a]", ["-", "a"], ["b"]),
        ("root ::= [a-]", ["-", "a"], ["b"]),
        ("root ::= [a-c]", ["b"], ["-"]),
        ("root ::= [^a^]", ["b", "\n"], ["a", "^"]),
        (r"root ::= [.$*/\]]", [".", "$", "*", "/", "]"], ["a"]),
        ("root ::= .", ["a", "\n", "é", "\U0010ffff"], ["", "aa"]),
        ('root ::= ("a"{2}){2}', ["aaaa"], ["aa", "aaa"]),
        ('root ::= ("a"+)? "b"', ["b", "aab"], ["a"]),
        ('root ::= (("a"*)) {2} "b"', ["b", "aaab"], ["a"]),
        ('root ::= ("a" | "b"?) *', ["", "abba"], ["c"]),
        ('root ::= start\nstart ::= "a"', ["a"], ["b"]),
        (
            'root ::= a A a-1 a_1 aA 1 end\na ::= "1"\nA ::= "2" end\na-1 ::= "3"\n'
            'a_1 ::= "4"\naA ::= "5"\n1 ::= "6"\nend ::= "!" # a rule: "x" ::= [',
            ["12!3456!"],
            ["12!3456"],
        ),
        ('root ::= (  # a group\n  "a" |\n  "b" )', ["a", "b"], ["c"]),
    ],
)
def test_what_llama_cpp_understands(grammar: str, right: list[str], wrong: list[str]) -> None:
    for text in right:
        assert derives(gbnf(grammar), text), text
    for text in wrong:
        assert not derives(gbnf(grammar), text), text


@pytest.mark.parametrize("part", ["[", '"', "{", "(", "()*", "[\\", '"\\', "a ", "a*)"])
def test_a_grammar_of_the_largest_size_is_looked_through_once(part: str) -> None:
    """Looking for the end of each part anew would take minutes."""
    with contextlib.suppress(FormatError):
        plain(f"root ::= {part * (MAX_BYTES // len(part))}")


@pytest.mark.parametrize(
    "grammar",
    [r'root ::= "\xZZ"', r"root ::= [\u12]", r'root ::= "\d"', r'root ::= "\UFFFFFFFF"',
     r'root ::= "\ud800"', 'root ::= "a', "root ::= [a", "root ::= (", 'root ::= "a" )'],
)  # fmt: skip
def test_what_is_no_grammar(grammar: str) -> None:
    with pytest.raises(FormatError, match=r"^invalid grammar in format: "):
        derives(gbnf(grammar), "a")


atoms = st.sampled_from(
    [
        ('"a"', "a"),
        ('"ab"', "ab"),
        ("[ab]", "[ab]"),
        ("[^a]", "[^a]"),
        ('"-"', "-"),
        (".", "(?s:.)"),
    ]
)
repetitions = st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{0,1}", "{2,}"])


def repeated(inner: tuple[str, str], how: str) -> tuple[str, str]:
    return f"({inner[0]}){how}", f"(?:{inner[1]}){how}"


def joined(parts: list[tuple[str, str]], between: str) -> tuple[str, str]:
    expressions, patterns = zip(*parts, strict=True)
    return f"({between.join(expressions)})", f"(?:{between.strip().join(patterns)})"


expressions = st.recursive(
    atoms,
    lambda inner: (
        st.builds(repeated, inner, repetitions)
        | st.builds(joined, st.lists(inner, min_size=1, max_size=3), st.sampled_from([" ", " | "]))
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(expressions, st.text("ab-\n", max_size=6))
def test_expressions_mean_what_regular_ones_do(both: tuple[str, str], text: str) -> None:
    expression, pattern = both
    expected = re.fullmatch(pattern, text) is not None
    assert derives(gbnf(f"root ::= {expression}"), text) == expected
