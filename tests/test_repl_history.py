"""The history of typed lines, in Ollama's file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llamaherd.cli.repl.editor import KeptHistory
from llamaherd.cli.repl.history import LIMIT, HistoryFile
from llamaherd.errors import StoreError


def history(folder: Path) -> HistoryFile:
    return HistoryFile(folder / ".ollama" / "history")


def test_lines_are_kept_in_order_for_their_owner_alone(tmp_path: Path) -> None:
    file = history(tmp_path)
    assert file.lines() == []
    file.add("one")
    file.add("two\n\n  three  ")
    assert file.path.read_text() == "one\ntwo\n  three  \n"
    assert file.lines() == ["one", "two", "three"]
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.path.parent.iterdir()] == ["history"]


def test_the_latest_lines_are_kept(tmp_path: Path) -> None:
    file = history(tmp_path)
    file.add("\n".join(map(str, range(LIMIT))))
    file.add("last")
    assert file.lines() == [*map(str, range(1, LIMIT)), "last"]


def test_what_ollama_wrote_is_read(tmp_path: Path) -> None:
    file = history(tmp_path)
    file.path.parent.mkdir()
    file.path.write_bytes("hello\n\n日本語\n\xff".encode() + b"\xff\n")
    assert file.lines() == ["hello", "日本語", "\xff\ufffd"]


def test_conversations_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    def add(number: int) -> None:
        history(tmp_path).add(f"line {number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    assert sorted(history(tmp_path).lines()) == sorted(f"line {number}" for number in range(40))


def test_a_file_that_can_not_be_used_is_named(tmp_path: Path) -> None:
    file = history(tmp_path)
    file.path.mkdir(parents=True)
    for use in (file.lines, lambda: file.add("x")):
        with pytest.raises(StoreError, match="history"):
            use()


def test_where_the_file_can_not_be_used_the_history_says_so_and_goes_on(tmp_path: Path) -> None:
    file = history(tmp_path)
    file.path.mkdir(parents=True)
    kept = KeptHistory(file, keeps=True)
    kept.append_string("one")
    assert kept.get_strings() == ["one"]
    assert kept.complaint.startswith("Warning: what is typed is not kept: can't read")
    assert not kept.keeps


def test_lines_that_are_not_to_be_kept_are_remembered_only(tmp_path: Path) -> None:
    kept = KeptHistory(history(tmp_path), keeps=True)
    kept.append_string("one")
    kept.keeps = False
    kept.append_string("secret")
    kept.keeps = True
    kept.append_string("two")
    assert kept.get_strings() == ["one", "secret", "two"]
    assert history(tmp_path).lines() == ["one", "two"]
