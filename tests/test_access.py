"""Who may talk to the server."""

from __future__ import annotations

import pytest

from llamaherd.server.access import Origins, is_local_host


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "LOCALHOST:11434",
        "127.0.0.1:11434",
        "127.9.9.9",
        "[::1]:11434",
        "::1",
        "0.0.0.0",
        "192.168.1.4",
        "10.0.0.1:80",
        "box.local",
        "app.localhost:3000",
        "x.internal",
        "MyBox:11434",
    ],
)
def test_names_of_this_machine_and_its_network_are_served(host: str) -> None:
    assert is_local_host(host, "mybox")


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "8.8.8.8", "local", "evil.example:11434"]
)
def test_other_names_are_turned_away(host: str) -> None:
    assert not is_local_host(host, "mybox")


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "https://localhost:3000",
        "http://127.0.0.1:8080",
        "http://0.0.0.0",
        "app://obsidian.md",
        "file://x",
        "tauri://localhost",
        "vscode-webview://abc",
        "http://Localhost",
    ],
)
def test_local_pages_and_desktop_programs_are_allowed(origin: str) -> None:
    assert Origins().allow(origin, "127.0.0.1:11434")


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://localhost.evil.example",
        "null",
        "",
        "http://localhost@evil",
        "http://localhost:x@evil",
    ],
)
def test_foreign_pages_are_not(origin: str) -> None:
    assert not Origins().allow(origin, "127.0.0.1:11434")


def test_a_page_may_talk_to_the_host_that_served_it() -> None:
    assert Origins().allow("https://models.example", "models.example")
    assert not Origins().allow("https://other.example", "models.example")


def test_more_origins_by_setting() -> None:
    origins = Origins(["chrome-extension://*", "https://a.example"])
    assert origins.allow("chrome-extension://abcdef", "h")
    assert origins.allow("https://a.example", "h")
    assert not origins.allow("https://a.example.evil", "h")
    assert Origins(["*"]).allow("http://anything", "h")
