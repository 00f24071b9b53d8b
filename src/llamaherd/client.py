"""The HTTP client of the command line: blocking, standard library only, so that it starts fast.

One connection per request: a prompt loop may rest for hours between two of them. Closing a
stream closes its connection, which is how the server learns that nobody waits any more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    IncompleteRead,
)
from typing import Any, BinaryIO, Final, NoReturn

from llamaherd.config import Address
from llamaherd.errors import BadRequest, ServerError, ServerUnreachable
from llamaherd.version import __version__

#: A JSON object, as the API's documentation describes it.
Object = dict[str, Any]
#: The objects of a streamed answer; closing it cancels the request.
Stream = Generator[Object, None, None]

#: Seconds to wait for a connection; an answer may take as long as a model takes to load.
CONNECT_TIMEOUT: Final = 30.0
#: Bytes read from a file at once while it is uploaded.
CHUNK: Final = 1 << 20

#: A server that listens on every interface is reached on the loopback one.
_LOOPBACK: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


class Client:
    """The server at ``address``, which is shown ``key`` if that isn't empty.

    Every method raises ``ServerUnreachable`` when no server answers and ``ServerError`` with the
    server's own words when it answers with an error, also in the middle of a stream.
    """

    def __init__(self, address: Address, key: str = "") -> None:
        self.address = address
        self._authorization = {"Authorization": f"Bearer {key}"} if key else {}

    def heartbeat(self) -> None:
        """Return if a server is there."""
        with self._request("HEAD", "/"):
            pass

    def version(self) -> str:
        return str(self._call("GET", "/api/version").get("version", ""))

    def models(self) -> list[Object]:
        """The models of the store, newest first."""
        return list(self._call("GET", "/api/tags").get("models") or [])

    def running(self) -> list[Object]:
        """The loaded models."""
        return list(self._call("GET", "/api/ps").get("models") or [])

    def show(
        self,
        model: str,
        *,
        verbose: bool = False,
        system: str = "",
        options: Mapping[str, Any] | None = None,
    ) -> Object:
        """What there is to know of a model, as if it had this system message and options too."""
        request: Object = {"model": model, "verbose": verbose}
        if system:
            request["system"] = system
        if options:
            request["options"] = dict(options)
        return self._call("POST", "/api/show", request)

    def copy(self, source: str, destination: str) -> None:
        self._call("POST", "/api/copy", {"source": source, "destination": destination})

    def delete(self, model: str) -> None:
        self._call("DELETE", "/api/delete", {"model": model})

    def unload(self, model: str) -> None:
        """End the model's runner, if it has one."""
        self._call("POST", "/api/generate", {"model": model, "keep_alive": 0, "stream": False})

    def generate(self, request: Object) -> Stream:
        return self._stream("/api/generate", request)

    def chat(self, request: Object) -> Stream:
        return self._stream("/api/chat", request)

    def create(self, request: Object) -> Stream:
        return self._stream("/api/create", request)

    def pull(self, model: str, *, insecure: bool = False) -> Stream:
        return self._stream("/api/pull", {"model": model, "insecure": insecure})

    def push(self, model: str, *, insecure: bool = False) -> Stream:
        return self._stream("/api/push", {"model": model, "insecure": insecure})

    def has_blob(self, digest: str) -> bool:
        try:
            with self._request("HEAD", f"/api/blobs/{digest}"):
                return True
        except ServerError as error:
            if error.status == 404:
                return False
            raise

    def upload_blob(
        self, digest: str, file: BinaryIO, size: int, sent: Callable[[int], None]
    ) -> None:
        """Store ``size`` bytes of ``file``; ``sent`` hears the sum after each chunk."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        chunks = _chunks(file, size, sent)
        with self._request("POST", f"/api/blobs/{digest}", chunks, headers):
            pass

    def _call(self, method: str, path: str, body: Object | None = None) -> Object:
        with self._request(method, path, *_json_body(body)) as response:
            text = response.read()
        return self._object(text) if text.strip() else {}

    def _stream(self, path: str, body: Object) -> Stream:
        with self._request("POST", path, *_json_body(body)) as response:
            for line in _lines(response):
                event = self._object(line)
                if "error" in event:
                    raise ServerError(str(event["error"]), int(event.get("status", 500)))
                yield event

    @contextmanager
    def _request(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Iterator[HTTPResponse]:
        """The answer, if it isn't an error; the connection lives as long as the block."""
        connection = self._connection()
        try:
            self._connect(connection)
            yield self._exchange(connection, method, path, body, headers or {})
        except (HTTPException, OSError) as error:
            self._broken(error)
        finally:
            connection.close()

    def _exchange(
        self,
        connection: HTTPConnection,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None,
        headers: dict[str, str],
    ) -> HTTPResponse:
        headers = {
            "User-Agent": f"llamaherd/{__version__}",
            "Accept": "application/json",
            **self._authorization,
            **headers,
        }
        try:
            connection.request(method, self.address.path + path, body, headers)
        except (BrokenPipeError, ConnectionResetError):
            # A server that refuses an upload may answer and close before it has read all of it.
            response = connection.response_class(connection.sock, method=method)
            response.begin()
        else:
            response = connection.getresponse()
        if response.status >= 300:
            raise _refusal(response)
        return response

    def _connection(self) -> HTTPConnection:
        kind = HTTPSConnection if self.address.scheme == "https" else HTTPConnection
        host = _LOOPBACK.get(self.address.host, self.address.host)
        return kind(host, self.address.port, timeout=CONNECT_TIMEOUT)

    def _connect(self, connection: HTTPConnection) -> None:
        try:
            connection.connect()
        except ConnectionRefusedError as error:
            raise ServerUnreachable(
                "ollama server not responding - could not connect to ollama server,"
                " run 'ollama serve' to start it"
            ) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise ServerUnreachable(f"could not connect to {self.address}: {reason}") from error
        connection.sock.settimeout(None)

    def _broken(self, error: Exception) -> NoReturn:
        if isinstance(error, (OSError, IncompleteRead)):
            problem = "closed the connection before its answer was complete"
        else:
            problem = "did not answer as an ollama server does"
        raise ServerUnreachable(f"the server at {self.address} {problem}") from error

    def _object(self, text: bytes) -> Object:
        try:
            value = json.loads(text)
        except ValueError as error:
            self._broken(HTTPException(str(error)))
        if not isinstance(value, dict):
            self._broken(HTTPException("not a JSON object"))
        return value


def _lines(response: HTTPResponse) -> Iterator[bytes]:
    """The lines that aren't empty, each as soon as it has come.

    Raises ``HTTPException`` if the connection closes early, which HTTPResponse's own line
    iteration takes for the end.
    """
    rest = b""
    if response.getheader("Content-Length") is None:
        while piece := response.read1(CHUNK):
            *lines, rest = (rest + piece).split(b"\n")
            yield from filter(bytes.strip, lines)
    else:
        yield from filter(bytes.strip, response.read().split(b"\n"))
    if rest:
        yield rest


def _json_body(body: Object | None) -> tuple[bytes | None, dict[str, str]]:
    if body is None:
        return None, {}
    # Arguments that aren't UTF-8 reach Python as lone surrogates, which no JSON text may hold.
    text = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    return text, {"Content-Type": "application/json"}


def _chunks(file: BinaryIO, size: int, sent: Callable[[int], None]) -> Iterator[bytes]:
    """The bytes promised by the Content-Length; a file that changed meanwhile ends the request."""
    total = 0
    while chunk := file.read(CHUNK):
        total += len(chunk)
        if total > size:
            break
        yield chunk
        sent(total)
    if total != size:
        raise BadRequest(f"{file.name} changed while it was uploaded")


def _refusal(response: HTTPResponse) -> ServerError:
    text = response.read().decode("utf-8", "replace").strip()
    try:
        message = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        message = text or f"{response.status} {response.reason}"
    return ServerError(str(message), response.status)
