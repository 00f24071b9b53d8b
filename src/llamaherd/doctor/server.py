"""Is a server there, and does it answer?"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, TypeVar

from llamaherd.client import Client
from llamaherd.config import Address
from llamaherd.doctor.findings import Fact, Problem, Section
from llamaherd.errors import LlamaherdError, ServerUnreachable

#: Seconds that a sound server never needs to tell its version.
PATIENCE: Final = 5.0

Answer = TypeVar("Answer")


def examine_server(address: Address, key: str = "", patience: float = PATIENCE) -> Section:
    """``key`` is what OLLAMA_API_KEY says."""
    client = Client(address, key)
    facts: dict[str, Fact] = {"address": str(address)}
    try:
        facts["server"] = f"runs, version {_within(patience, client.version)}"
        facts["loaded models"] = [
            str(model.get("name", "")) for model in _within(patience, client.running)
        ]
    except TimeoutError:
        facts["server"] = "does not answer"
        problem = Problem(
            f"The server at {address} takes connections, but gave no answer in {patience:g} s.",
            "Look at the end of its log, then stop it and start it again: ollama serve",
        )
        return Section("Server", facts, [problem])
    except ServerUnreachable as error:
        if isinstance(error.__cause__, ConnectionRefusedError):
            facts["server"] = "does not run; 'ollama serve' starts it"
            return Section("Server", facts)
        return Section("Server", facts | {"server": "unreachable"}, [_strange(address, error)])
    except LlamaherdError as error:
        if error.status == 401:
            facts["server"] = "runs, wants an API key"
            return Section("Server", facts, [_locked(address, key)])
        return Section("Server", facts | {"server": "no answer"}, [_strange(address, error)])
    return Section("Server", facts)


def _strange(address: Address, error: LlamaherdError) -> Problem:
    return Problem(
        f"There is no Ollama server at {address}: {error.message}.",
        f"Set OLLAMA_HOST to where the server is, or let it use another port than {address.port}.",
    )


def _locked(address: Address, key: str) -> Problem:
    wanted = "knows no such API key as OLLAMA_API_KEY has" if key else "wants an API key"
    return Problem(
        f"The server at {address} {wanted}.",
        "Set OLLAMA_API_KEY to one of the keys in the server's OLLAMA_API_KEYS.",
    )


def _within(seconds: float, call: Callable[[], Answer]) -> Answer:
    """What ``call`` returns or raises; ``TimeoutError`` if that takes longer.

    A call that never ends is left to a thread that the process doesn't wait for.
    """
    outcome: SimpleQueue[tuple[Answer | None, LlamaherdError | None]] = SimpleQueue()

    def work() -> None:
        try:
            outcome.put((call(), None))
        except LlamaherdError as error:
            outcome.put((None, error))

    Thread(target=work, daemon=True).start()
    try:
        answer, error = outcome.get(timeout=seconds)
    except Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]
