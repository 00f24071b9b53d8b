"""API keys as they are written in OLLAMA_API_KEYS, and what is told of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaherd.config import Settings
from llamaherd.errors import ConfigError
from llamaherd.keys import ApiKey, KeyFile, parse_keys, read_keys
from llamaherd.server.authorization import needed_role, role_of

KEYS = st.from_regex(r"[A-Za-z0-9._~+/-]{1,40}={0,2}", fullmatch=True)


def keys_of(text: str) -> tuple[ApiKey, ...]:
    return read_keys(parse_keys(text))


def test_a_key_has_the_role_before_it_or_is_an_administrator_s() -> None:
    keys = keys_of("plain, inference:reader ,admin:writer,")
    assert [role_of(key, keys) for key in ("plain", "reader", "writer")] == [
        "admin",
        "inference",
        "admin",
    ]
    assert role_of("inference:reader", keys) is None
    assert role_of("", keys) is None


def test_a_key_with_both_roles_is_an_administrator_s() -> None:
    assert role_of("both", keys_of("admin:both,inference:both")) == "admin"


@given(KEYS, KEYS)
def test_only_the_very_key_opens(key: str, other: str) -> None:
    keys = keys_of(f"inference:{key}")
    assert role_of(key, keys) == "inference"
    assert (role_of(other, keys) is not None) == (other == key)


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_is_compared(token: str) -> None:
    assert role_of(token, keys_of("secret")) == ("admin" if token == "secret" else None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("good,adnim:secret", "entry 2: expected admin: or inference:"),
        ("a:b:secret", "entry 1: expected admin: or inference:"),
        ("se cret", "entry 1: a key is made of letters"),
        ("admin:", "entry 1: a key is made of letters"),
        ("schlüssel", "entry 1: a key is made of letters"),
    ],
)
def test_what_can_not_be_a_key_is_refused_without_telling_it(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        Settings.from_environ({"OLLAMA_API_KEYS": text})
    assert error.value.message.startswith(f"OLLAMA_API_KEYS: {words}")
    assert not any(secret in error.value.message for secret in ("cret", "schlüssel"))
    assert error.value.__cause__ is None


def test_settings_hold_no_key_that_could_be_printed() -> None:
    environ = {"OLLAMA_API_KEYS": "admin:topsecret", "OLLAMA_API_KEY": "topsecret"}
    assert "topsecret" not in repr(Settings.from_environ(environ))
    with pytest.raises(ConfigError, match=r"^OLLAMA_API_KEY: a key is made of visible ASCII") as e:
        Settings.from_environ({"OLLAMA_API_KEY": "top\nsecret"})
    assert "secret" not in e.value.message


class TestFiles:
    def test_hold_a_key_in_each_line(self, tmp_path: Path) -> None:
        file = tmp_path / "keys"
        file.write_text("# ours\n\n  admin:first  \ninference:second\n")
        assert parse_keys(f"@{file}") == (KeyFile(file),)
        keys = keys_of(f"third,@{file}")
        assert [role_of(key, keys) for key in ("first", "second", "third")] == [
            "admin",
            "inference",
            "admin",
        ]

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"good\nnot good\n", ", line 2: a key is made of"),
            (b"# nothing\n", "there is no key in"),
            (b"\xff\xfe", "can't read"),
        ],
    )
    def test_that_make_no_sense_are_refused_by_name(
        self, content: bytes, words: str, tmp_path: Path
    ) -> None:
        file = tmp_path / "keys"
        file.write_bytes(content)
        with pytest.raises(ConfigError) as error:
            keys_of(f"@{file}")
        assert words in error.value.message
        assert str(file) in error.value.message
        assert "not good" not in error.value.message

    def test_that_are_not_there_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="No such file"):
            keys_of(f"@{tmp_path}/nothing")


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("/", None),
        ("/api/chat", "inference"),
        ("/api/tags", "inference"),
        ("/api/tags/", "inference"),
        ("/v1/chat/completions", "inference"),
        ("/metrics", "inference"),
        ("/api/create", "admin"),
        ("/api/blobs/sha256:0", "admin"),
        ("/api/delete", "admin"),
        ("/api/pull", "admin"),
        ("//", "admin"),
        ("/v1", "admin"),
        ("/api/chat/../create", "admin"),
        ("/whatever", "admin"),
    ],
)
def test_what_is_not_for_everybody_is_for_administrators(path: str, role: str | None) -> None:
    assert needed_role(path) == role
