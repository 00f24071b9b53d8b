"""Threads and how they wait."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llamaherd.llama.environment import choose_threads, prepare


def test_a_requested_number_of_threads_is_taken(tmp_path: Path) -> None:
    assert choose_threads(3, tmp_path / "any") == 3


def test_tiny_models_get_one_thread_and_others_a_core_each(tmp_path: Path) -> None:
    tiny, large = tmp_path / "tiny", tmp_path / "large"
    tiny.write_bytes(b"x")
    with large.open("wb") as file:
        file.truncate(1 << 30)
    assert choose_threads(0, tiny) == 1
    assert 1 <= choose_threads(0, large) <= len(os.sched_getaffinity(0))


def test_openmp_spins_briefly_unless_the_user_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "GGML_NO_BACKTRACE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    prepare()
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
    assert os.environ["GGML_NO_BACKTRACE"] == "1"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    prepare()
    assert "GOMP_SPINCOUNT" not in os.environ
