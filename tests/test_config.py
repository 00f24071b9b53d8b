"""Settings: every form of an address, and what is said of values that make no sense."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaherd.config import VARIABLES, Address, Settings, parse_address, unknown_variables
from llamaherd.duration import FOREVER, MINUTE, SECOND
from llamaherd.errors import ConfigError
from tests.support.cli import ollama


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", Address("http", "127.0.0.1", 11434)),
        ("1.2.3.4", Address("http", "1.2.3.4", 11434)),
        ("1.2.3.4:5", Address("http", "1.2.3.4", 5)),
        (":5", Address("http", "", 5)),
        ("http://", Address("http", "127.0.0.1", 80)),
        ("http://a.example", Address("http", "a.example", 80)),
        ("https://a.example", Address("https", "a.example", 443)),
        ("https://a.example:5/x/", Address("https", "a.example", 5, "/x")),
        ("[::1]", Address("http", "::1", 11434)),
        ("[::1]:5", Address("http", "::1", 5)),
        ("::1", Address("http", "::1", 11434)),
        ("[fe80::1%eth0]:5", Address("http", "fe80::1%eth0", 5)),
        (' "1.2.3.4:5" ', Address("http", "1.2.3.4", 5)),
        ("bücher.example", Address("http", "bücher.example", 11434)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        *(":65536", ":-1", ":x", ":٣", ":" + "9" * 5000, "[::1", "[::1]x"),
        *("a b", "a\nb", "a..b", ".", "a" * 64, "h\udcff", "127.0.0.1/a b", "127.0.0.1/é"),
    ],
)
def test_addresses_that_can_not_be(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid|Exceeds"):
        parse_address(text)


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert 0 <= address.port <= 65535
    assert address.host


def test_what_is_not_set_has_its_default() -> None:
    settings = Settings.from_environ({"HOME": "/home/somebody", "OLLAMA_KEEP_ALIVE": " "})
    assert (settings.keep_alive, settings.load_timeout) == (5 * MINUTE, 5 * MINUTE)
    assert (settings.context_length, settings.num_parallel, settings.max_queue) == (4096, 0, 512)
    assert settings.flash_attention is None


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("OLLAMA_KEEP_ALIVE", "-1", "keep_alive", FOREVER),
        ("OLLAMA_KEEP_ALIVE", "30", "keep_alive", 30 * SECOND),
        ("OLLAMA_LOAD_TIMEOUT", "0", "load_timeout", FOREVER),
        ("OLLAMA_NUM_PARALLEL", "252", "num_parallel", 252),
        ("OLLAMA_ORIGINS", "http://a, ,http://b", "origins", ("http://a", "http://b")),
        ("OLLAMA_FLASH_ATTENTION", "false", "flash_attention", False),
        ("OLLAMA_KV_CACHE_TYPE", "Q8_0", "kv_cache_type", "q8_0"),
        ("OLLAMA_MODELS", "/var/models", "models", Path("/var/models")),
    ],
)
def test_values(name: str, text: str, field: str, value: object) -> None:
    assert getattr(Settings.from_environ({name: text}), field) == value


NONSENSE = {
    "OLLAMA_HOST": "127.0.0.1:port",
    "OLLAMA_MODELS": "/models\udcff",
    "OLLAMA_KEEP_ALIVE": "9" * 5000 + "s",
    "OLLAMA_CONTEXT_LENGTH": "-1",
    "OLLAMA_NUM_PARALLEL": "257",
    "OLLAMA_MAX_LOADED_MODELS": "many",
    "OLLAMA_MAX_QUEUE": "1.5",
    "OLLAMA_LOAD_TIMEOUT": "soon",
    "OLLAMA_KV_CACHE_TYPE": "q9",
    "OLLAMA_GPU_OVERHEAD": "1GB",
    "OLLAMA_API_KEYS": "adnim:secret",
    "OLLAMA_API_KEY": "sécret",
}

#: Their values stand in no message.
SECRET = {"OLLAMA_API_KEYS", "OLLAMA_API_KEY"}

#: Any text at all makes sense to these.
LENIENT = {
    *("OLLAMA_ORIGINS", "OLLAMA_FLASH_ATTENTION", "OLLAMA_NOPRUNE", "OLLAMA_NOHISTORY"),
    *("OLLAMA_DEBUG", "NO_COLOR"),
}


def test_every_variable_is_specified_here() -> None:
    assert {variable.name for variable in VARIABLES} == NONSENSE.keys() | LENIENT


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_refused_by_the_name_of_its_variable(name: str) -> None:
    value = ":" if name in SECRET else f"={NONSENSE[name]!r}:"
    with pytest.raises(ConfigError) as refused:
        Settings.from_environ({name: NONSENSE[name]})
    settings, (error,) = Settings.tolerant({name: NONSENSE[name]})
    assert refused.value.message == error.message
    assert error.message.startswith(name + value)
    assert name not in SECRET or "cret" not in error.message
    assert settings == Settings.from_environ({})


@pytest.mark.parametrize("command", ["serve", "list"])
def test_the_program_says_so_and_ends(command: str) -> None:
    outcome = ollama(command, environment={"OLLAMA_HOST": "a b"})
    assert outcome == (1, "", "Error: OLLAMA_HOST='a b': invalid host 'a b'\n")


def test_names_that_are_not_ours_are_told() -> None:
    assert unknown_variables({"OLLAMA_HOSTS": "x", "OLLAMA_HOST": "y"}) == ("OLLAMA_HOSTS",)
