"""The OpenAPI document: it tells of every route, and no request at all breaks what it says.

``make test`` sends a few requests of each kind, always the same ones; ``make fuzz`` sends many.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from jsonschema import Draft202012Validator
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from llamaherd.server.app import ROUTES
from llamaherd.server.openapi import document
from tests.support.models import write_parrot
from tests.support.server import RunningServer, running_server

#: Set by ``make fuzz``.
EXAMPLES: Final = os.environ.get("FUZZ_EXAMPLES")

#: Nothing listens there, so that no test can reach a registry.
NOWHERE: Final = "127.0.0.1:1"

#: Shows whatever a conversation may have, so that the model can do all that one can be asked to.
TEMPLATE: Final = (
    "{{ .System }}{{ .Tools }}{{ range .Messages }}{{ .Role }}: {{ .Content }}"
    "{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ range .ToolCalls }}<tool_call>"
    '{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}</tool_call>{{ end }}'
    "{{ end }}{{ .Suffix }}"
)

#: What Ollama too answers with status 500, by path. Nothing else may.
OLLAMAS_500: Final = {
    "/api/generate": r'option "\w+" must be of (type \w+|an array of strings)$|template: ',
    "/api/chat": r'option "\w+" must be of (type \w+|an array of strings)$',
    "/api/embed": r'option "\w+" must be of (type \w+|an array of strings)$',
    "/api/embeddings": r'option "\w+" must be of (type \w+|an array of strings)$',
    "/api/pull": r"pull model manifest: ",
    "/api/push": r"file does not exist$|(Head|Get|Post) \\?\"https?://",
    "/api/create": r"pull model manifest: ",
}


#: How the readers refuse what the document must not allow. To JSON Schema 5.0 is a whole number, to
#: Go it isn't.
NOT_AS_DESCRIBED: Final = r'json: cannot unmarshal (?!number \S+ into .* of type int")|time: '

SCHEMA: Final = schemathesis.openapi.from_dict(dict(document()))
# Boundary values of each field in turn: thousands of requests.
SCHEMA.config.phases.coverage.enabled = EXAMPLES is not None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("openapi")
    proxies = {"HTTP_PROXY": f"http://{NOWHERE}", "HTTPS_PROXY": f"http://{NOWHERE}"}
    with running_server(folder, **proxies, NO_PROXY="") as server:
        server.add("tiny", write_parrot(folder / "tiny.gguf", "Once upon a time."))
        server.create("able", "tiny", template=TEMPLATE)
        yield server


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@SCHEMA.parametrize()
@settings(
    max_examples=int(EXAMPLES or 25),
    deadline=None,
    derandomize=EXAMPLES is None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_request_breaks_what_the_document_says(
    case: schemathesis.Case[Any], server: RunningServer
) -> None:
    aim(case)
    response = case.call(base_url=f"http://{server.host}", timeout=60)
    if response.status_code >= 500:
        error = response.json()["error"]
        assert response.status_code == 500, error
        assert re.match(OLLAMAS_500[case.path], error), error
    elif "application/x-ndjson" in response.headers.get("content-type", ()):
        line = document()["paths"][case.path]["post"]["responses"]["200"]
        check_lines(response.content, line["content"]["application/x-ndjson"]["schema"])
    if case.meta is not None and case.meta.generation.mode.is_positive:
        assert not re.search(NOT_AS_DESCRIBED, response.text), response.text
    case.validate_response(
        response,
        excluded_checks=[not_a_server_error, negative_data_rejection, positive_data_acceptance],
    )
    assert not any("internal error" in line for line in server.log)


def aim(case: schemathesis.Case[Any]) -> None:
    """Give most requests a name that fits: few of those made at random are names at all."""
    body = case.body
    if not isinstance(body, dict):
        return
    dice = random.Random(json.dumps(body, sort_keys=True, default=repr))
    names: dict[str, list[str]] = {"model": ["able"]}
    match case.path:
        case "/api/create":
            names = {"model": ["made"], "from": ["able", f"{NOWHERE}/a/b"]}
        case "/api/delete":
            names = {"model": ["made", "copied"]}
        case "/api/copy":
            names = {"source": ["able"], "destination": ["made", "copied"]}
        case "/api/pull" | "/api/push":
            names = {"model": [f"{NOWHERE}/a/b", "able"]}
    for field, fitting in names.items():
        if field in body and dice.random() < 0.8:
            body[field] = dice.choice(fitting)


def check_lines(content: bytes, schema: Any) -> None:
    whole = {**document(), **schema}
    for line in content.splitlines():
        Draft202012Validator(whole).validate(json.loads(line))


def test_every_route_is_described_and_nothing_else() -> None:
    routes = {
        (route.path_format, method.lower())
        for route in ROUTES
        for method in (route.methods or ())
        if method != "HEAD" or "GET" not in (route.methods or ())
    }
    described = {(path, method) for path, item in document()["paths"].items() for method in item}
    assert described == routes
