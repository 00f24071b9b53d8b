"""The client against a server that says one thing, whether it makes sense or not."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any

import pytest

from llamaherd.client import Client
from llamaherd.config import parse_address
from llamaherd.errors import BadRequest, ServerError, ServerUnreachable

DIGEST = "sha256:" + "0" * 64


def answer(body: str = "", status: str = "200 OK") -> str:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}"


def stream(*lines: str, whole: bool = True) -> str:
    chunks = [f"{len(line.encode()) + 1:x}\r\n{line}\n\r\n" for line in lines]
    head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + "".join(chunks) + ("0\r\n\r\n" if whole else "")


class Server:
    """Answers one connection with ``reply`` and closes it; ``request`` is what it was asked."""

    def __init__(self, reply: str, host: str = "127.0.0.1", listens: bool = True) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.create_server((host, 0), family=family)
        self.port: int = self.socket.getsockname()[1]
        self.reply = reply.encode()
        self.listens = listens
        self.head: list[str] = []
        self.body = b""

    def client(self, address: str = "127.0.0.1:{port}") -> Client:
        return Client(parse_address(address.format(port=self.port)))

    def serve(self) -> None:
        connection, _ = self.socket.accept()
        with connection, connection.makefile("rb") as received:
            while self.listens and (line := received.readline().decode("latin-1").rstrip("\r\n")):
                self.head.append(line)
            lengths = [line[15:] for line in self.head if line.startswith("Content-Length:")]
            # A reply that refuses is sent without reading the body, as real servers may do.
            if lengths and b" 4" not in self.reply[:12]:
                self.body = received.read(int(lengths[0]))
            with suppress(ConnectionError):  # A client that gives up is part of the tests.
                connection.sendall(self.reply)


@contextmanager
def serving(reply: str, host: str = "127.0.0.1", *, listens: bool = True) -> Iterator[Server]:
    server = Server(reply, host, listens)
    thread = Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        thread.join()
        server.socket.close()


def test_a_call_sends_json_and_reads_json() -> None:
    with serving(answer('{"modelfile": "FROM x"}')) as server:
        assert server.client().show("café 🙂") == {"modelfile": "FROM x"}
    assert server.head[0] == "POST /api/show HTTP/1.1"
    assert "Content-Type: application/json" in server.head
    assert json.loads(server.body) == {"model": "café 🙂", "verbose": False}


def test_text_that_is_no_unicode_is_replaced() -> None:
    with serving(answer("{}")) as server:
        server.client().delete("caf\udce9")
    assert json.loads(server.body) == {"model": "caf?"}


def test_the_address_may_have_a_path() -> None:
    with serving(answer('{"version": "1.2.3"}')) as server:
        assert server.client("http://127.0.0.1:{port}/behind/").version() == "1.2.3"
    assert server.head[0] == "GET /behind/api/version HTTP/1.1"


@pytest.mark.parametrize("address", ["0.0.0.0:{port}", "localhost:{port}"])
def test_a_server_on_every_interface_is_found_on_the_loopback(address: str) -> None:
    with serving(answer('{"models": null}')) as server:
        assert server.client(address).models() == []


def test_ipv6() -> None:
    try:
        context = serving(answer('{"models": []}'), host="::1")
        with context as server:
            assert server.client("[::1]:{port}").running() == []
            assert f"Host: [::1]:{server.port}" in server.head
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")


def test_a_stream_is_read_line_by_line() -> None:
    with serving(stream('{"response": "a"}', "", '{"response": "b", "done": true}')) as server:
        events = list(server.client().generate({"model": "m"}))
    assert events == [{"response": "a"}, {"response": "b", "done": True}]


def test_an_error_in_a_stream_is_raised_where_it_stands() -> None:
    with serving(stream('{"status": "one"}', '{"error": "two", "status": 400}')) as server:
        events = server.client().pull("m")
        assert next(events) == {"status": "one"}
        with pytest.raises(ServerError, match=r"^two$") as caught:
            next(events)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("reply", "message", "status"),
    [
        (answer('{"error": "model \'x\' not found"}', "404 Not Found"), "model 'x' not found", 404),
        (answer("404 page not found", "404 Not Found"), "404 page not found", 404),
        (answer("", "403 Forbidden"), "403 Forbidden", 403),
        (answer("[]", "400 Bad Request"), "[]", 400),
        (answer("", "301 Moved Permanently"), "301 Moved Permanently", 301),
    ],
)
def test_an_error_is_the_servers_own_words(reply: str, message: str, status: int) -> None:
    with serving(reply) as server, pytest.raises(ServerError) as caught:
        server.client().show("x")
    assert (caught.value.message, caught.value.status) == (message, status)


CLOSED = "closed the connection before its answer was complete"
FOREIGN = "did not answer as an ollama server does"


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("", CLOSED),
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", CLOSED),
        (stream('{"status": "one"}', whole=False), CLOSED),
        ("SSH-2.0-OpenSSH\r\n\r\n", FOREIGN),
        (answer("<html>"), FOREIGN),
        (answer("[1]"), FOREIGN),
    ],
)
@pytest.mark.parametrize(
    "ask", [lambda client: client.show("m"), lambda client: list(client.pull("m"))]
)
def test_answers_that_make_no_sense_are_reported(
    reply: str, problem: str, ask: Callable[[Client], Any]
) -> None:
    with serving(reply) as server, pytest.raises(ServerUnreachable, match=problem):
        ask(server.client())


def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ServerUnreachable, match="run 'ollama serve' to start it"):
        Client(parse_address(f"127.0.0.1:{port}")).heartbeat()


def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(
        ServerUnreachable, match=r"could not connect to http://nowhere\.invalid:1: "
    ):
        Client(parse_address("nowhere.invalid:1")).heartbeat()


def test_a_server_that_speaks_no_tls() -> None:
    with (
        serving("220 mail.example ESMTP\r\n", listens=False) as server,
        pytest.raises(ServerUnreachable, match="could not connect to https://127"),
    ):
        server.client("https://127.0.0.1:{port}").version()


def upload(client: Client, content: bytes, size: int | None = None) -> list[int]:
    sent: list[int] = []
    file = io.BytesIO(content)
    file.name = "model.gguf"
    client.upload_blob(DIGEST, file, len(content) if size is None else size, sent.append)
    return sent


def test_a_blob_is_sent_in_pieces() -> None:
    content = bytes(3 << 20)
    with serving(answer("", "201 Created")) as server:
        assert upload(server.client(), content) == [1 << 20, 2 << 20, 3 << 20]
    assert server.head[0] == f"POST /api/blobs/{DIGEST} HTTP/1.1"
    assert server.body == content


def test_a_refused_upload_reports_the_refusal_not_the_broken_connection() -> None:
    refusal = answer('{"error": "invalid digest format"}', "400 Bad Request")
    with serving(refusal) as server, pytest.raises(ServerError) as caught:
        upload(server.client(), bytes(30 << 20))
    assert caught.value.message == "invalid digest format"


@pytest.mark.parametrize("size", [9, 11])
def test_a_file_that_changes_while_it_is_sent(size: int) -> None:
    with (
        serving(answer("", "201 Created")) as server,
        pytest.raises(BadRequest, match=r"model\.gguf changed while it was uploaded"),
    ):
        upload(server.client(), b"0123456789", size)


@pytest.mark.parametrize(("status", "known"), [("200 OK", True), ("404 Not Found", False)])
def test_asking_for_a_blob(status: str, known: bool) -> None:
    with serving(answer("", status)) as server:
        assert server.client().has_blob(DIGEST) is known
    assert server.head[0] == f"HEAD /api/blobs/{DIGEST} HTTP/1.1"
