"""How findings are shown: plain text that reads the same in a terminal and in a pipe, or JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Final

from llamaherd.doctor.findings import Fact, Section

_INDENT: Final = "  "
#: Narrower than this, lines are left to the terminal.
_NARROWEST: Final = 40


def as_text(sections: Sequence[Section], width: int) -> str:
    """Sections of aligned facts, then the problems, numbered; wrapped at ``width`` columns."""
    names = [name for section in sections for name in section.facts]
    column = max(map(len, names), default=0) + 2
    lines: list[str] = []
    for section in sections:
        lines.append(section.title)
        for name, fact in section.facts.items():
            lines += _wrapped(_text(fact), _INDENT + name.ljust(column), width)
        lines.append("")
    problems = [problem for section in sections for problem in section.problems]
    if not problems:
        return "\n".join([*lines, "No problems found."])
    lines.append("1 problem" if len(problems) == 1 else f"{len(problems)} problems")
    for number, problem in enumerate(problems, start=1):
        mark = f"{_INDENT}{number}. "
        lines += _wrapped(problem.text, mark, width)
        # A command must stay in one line, to be copied.
        lines += [" " * len(mark) + line for line in problem.remedy.splitlines()]
    return "\n".join(lines)


def _wrapped(text: str, label: str, width: int) -> Iterator[str]:
    return iter(
        textwrap.wrap(
            text,
            max(width, _NARROWEST),
            initial_indent=label,
            subsequent_indent=" " * len(label),
            break_long_words=False,
            break_on_hyphens=False,
        )
        or [label.rstrip()]
    )


def _text(fact: Fact) -> str:
    match fact:
        case None:
            return "unknown"
        case bool():
            return "yes" if fact else "no"
        case str() | int():
            return str(fact)
        case _:
            return ", ".join(fact) or "none"


def as_json(sections: Sequence[Section]) -> dict[str, Any]:
    """``healthy``, ``problems`` with their section, and the facts of each section."""
    problems = [
        {"section": section.title, "problem": problem.text, "remedy": problem.remedy}
        for section in sections
        for problem in section.problems
    ]
    facts = {section.title: dict(section.facts) for section in sections}
    return {"healthy": not problems, "problems": problems, "facts": facts}
