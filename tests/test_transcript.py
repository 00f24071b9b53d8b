"""What a real Ollama answered, replayed: status, headers, fields and their order, error texts.

Texts that a model wrote, times and digests differ between any two runs; they are compared by kind.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.encoders import write_encoder
from tests.support.models import write_model, write_parrot
from tests.support.server import Answer, RunningServer, running_server

TRANSCRIPT: dict[str, Any] = json.loads(
    (Path(__file__).parent / "data" / "http-transcript.json").read_text()
)

#: Replayed in the order of the recording.
REPLAYED = (
    "root-head",
    "version-head",
    "notfound",
    "tags-post",
    "tags-head",
    "tags-trailing",
    "gen-stream",
    "gen-name-alias",
    "gen-upper",
    "gen-load-empty-prompt",
    "gen-unload",
    "gen-missing-model",
    "gen-bad-name",
    "gen-nobody",
    "gen-noctype",
    "gen-type-error",
    "gen-options-type",
    "gen-raw-template",
    "gen-template",
    "gen-bad-template",
    "gen-think-unsupported",
    "gen-think-false",
    "gen-system",
    "gen-ka-neg",
    "gen-long-truncated",
    "gen-unicode",
    "gen-embed-model",
    "embed-noinput",
    "embed-badtype",
    "embed-missing",
    "chat-stream",
    "chat-nostream",
    "chat-load",
    "chat-load-empty",
    "chat-unload",
    "chat-tool-history",
    "chat-think-unsupported",
    "chat-messages-type",
    "show-name",
    "show-missing",
    "show-empty",
    "show-system",
    "show-chatty",
    "show-fim",
    "copy-missing",
    "copy-empty",
    "delete-nobody",
    "create-from-nostream",
    "create-nothing",
    "create-badname",
    "create-badfile",
    "create-baddigest",
    "pull-bad",
    "push-nons",
    "blob-head-missing",
    "blob-post",
    "blob-post-again",
    "blob-bad-digest",
    "blob-traverse",
    "oai-chat",
    "oai-chat-stream",
    "oai-chat-missing",
    "oai-chat-badjson",
    "oai-chat-nomodel",
    "oai-chat-parts",
    "oai-chat-badstop",
    "oai-comp",
    "oai-comp-suffix",
    "oai-comp-missing",
    "oai-embed-missing",
    "oai-models",
    "cors-ok",
    "cors-evil",
    "cors-get-ok",
    "cors-get-evil",
    "cors-vscode",
    "host-evil",
    "host-local-tld",
    "host-ip",
)

#: Replies that don't end at a number of tokens, and what a model wrote or might have written then.
ENDING = {
    "gen-stop": ", there was a little girl named Lily. She",
    "oai-chat-stop": ". She",
    "oai-chat-schema": '{"age": -30, "ok": false}',
}

#: Replayed where what they need is there.
ELSEWHERE = {
    "gen-format-bad": "test_structured_output",
    "embed-one": "test_minilm",
    "embed-long-trunc": "test_minilm",
    "show-minilm": "test_minilm",
    "oai-embed": "test_minilm",
    "oai-embed-many": "test_minilm",
    "oai-embed-empty": "test_minilm",
}

#: Ollama ignores what it can't do or leaves half of it done; we refuse.
REFUSED = (
    "gen-image-unsupported",
    "chat-image-unsupported",
    "create-from-missing",
    "create-badparam",
    "create-badrole",
)

CHATTY = (
    "{{ if .System }}<sys>{{ .System }}</sys>{{ end }}{{ if .Tools }}<tools>{{ .Tools }}</tools>"
    "{{ end }}{{ range .Messages }}<{{ .Role }}>{{ .Content }}{{ range .ToolCalls }}"
    '{"name":"{{ .Function.Name }}","arguments":{{ .Function.Arguments }}}{{ end }}</{{ .Role }}>'
    "{{ end }}<assistant>"
)

#: Values that differ between any two runs.
VOLATILE = {
    "id",
    "created",
    "created_at",
    "modified_at",
    "expires_at",
    "response",
    "content",
    "text",
    "context",
    "total_duration",
    "load_duration",
    "prompt_eval_duration",
    "eval_duration",
    "eval_count",
    "digest",
    "size",
    "parameter_size",
    "general.parameter_count",
    "llama.block_count",
}

#: What our answers have beyond the recorded ones: how much of a prompt was cut, and what later
#: versions of Ollama tell of its part that was in the cache.
ADDED = {"prompt_dropped_count", "prompt_tokens_details"}

#: The last event of a stream of OpenAI's.
DONE = "data: [DONE]"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("transcript")
    model = write_model(
        folder / "tiny.gguf",
        n_ff=172,
        metadata={
            "general.license": "mit",
            "llama.rope.freq_base": 10000.0,
            "tokenizer.ggml.add_eos_token": False,
            "tokenizer.ggml.add_space_prefix": True,
        },
    )
    digest = "sha256:" + hashlib.sha256(model.read_bytes()).hexdigest()
    with running_server(folder) as server:
        assert server.upload(model, digest).status == 201
        create(server, model="tiny", files={"tiny.gguf": digest})
        server.add("minilm", write_encoder(folder / "encoder.gguf"))
        for name, text in ENDING.items():
            template = {"template": CHATTY} if "chat" in name else {}
            server.add(name, write_parrot(folder / f"{name}.gguf", text), **template)
        create(server, model="chatty", **{"from": "tiny"}, template=CHATTY)
        fim = "<PRE> {{ .Prompt }} <SUF>{{ .Suffix }} <MID>"
        create(server, model="fim", **{"from": "tiny"}, template=fim)
        create(
            server,
            model="mario",
            **{"from": "tiny"},
            system="You are Mario.",
            parameters={"temperature": 0, "num_ctx": 256, "stop": ["</s>", "\n\n"]},
            license=["MIT", "second"],
            messages=[
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": "hello"},
            ],
        )
        yield server


def create(server: RunningServer, **request: Any) -> None:
    answer = server.post("/api/create", **request)
    assert answer.lines()[-1] == {"status": "success"}


@pytest.mark.parametrize("name", REPLAYED)
def test_the_answer_is_that_of_ollama(name: str, server: RunningServer) -> None:
    recorded = TRANSCRIPT[name]
    request = recorded["request"]
    answer = server.request(
        request["method"], request["path"], request["body"], request.get("headers")
    )
    assert answer.status == recorded["status"]
    for header, value in recorded["headers"].items():
        if header == "transfer-encoding":
            # Go sends long bodies in chunks where we know their length.
            continue
        assert answer.headers.get(header) == value, header
    last = last_part(recorded["body"])
    assert shape(answer.text, last) == shape(recorded["body"], last)


@pytest.mark.parametrize("name", ENDING)
def test_a_reply_that_ends_by_itself(name: str, server: RunningServer) -> None:
    """A model that writes such a reply may need another number of tokens for it."""
    recorded = TRANSCRIPT[name]
    request = recorded["request"]
    wanted = json.loads(request["body"]) | {"model": name}
    answer = server.request(request["method"], request["path"], wanted)
    assert answer.status == recorded["status"]
    expected = json.loads(recorded["body"]) | {"model": name}
    reply = answer.json()
    for usage in (told["usage"] for told in (reply, expected) if "usage" in told):
        assert usage["completion_tokens"] == usage["total_tokens"] - usage["prompt_tokens"]
        usage |= {"completion_tokens": "any", "total_tokens": "any"}
    assert shape(json.dumps(reply)) == shape(json.dumps(expected))


def test_models_in_memory(server: RunningServer) -> None:
    """Our answer has the ``context_length`` too, as Ollama's has in later versions."""
    server.post("/api/chat", model="chatty", keep_alive=-1)
    recorded = TRANSCRIPT["ps"]
    answer = server.request("GET", "/api/ps")
    assert answer.headers["content-type"] == recorded["headers"]["content-type"]
    ((_, [model, *_]),) = json.loads(answer.text, object_pairs_hook=compared)
    ((_, [expected, *_]),) = json.loads(recorded["body"], object_pairs_hook=compared)
    assert model == [*expected, ("context_length", 512)]


def test_a_model_and_a_blob(server: RunningServer) -> None:
    """Both answers have neither a body nor the headers of one."""
    assert server.post("/api/copy", source="tiny", destination="luigi").status == 200
    digests = re.findall("sha256-[0-9a-f]{64}", server.post("/api/show", model="tiny").text)
    for name in ("blob-head", "delete"):
        request = TRANSCRIPT[name]["request"]
        path = re.sub("sha256:[0-9a-f]{64}", digests[0], request["path"])
        answer = server.request(request["method"], path, request["body"])
        assert (answer.status, answer.body) == (TRANSCRIPT[name]["status"], b"")
        assert "content-type" not in answer.headers
    assert "luigi" not in server.request("GET", "/api/tags").text


def test_no_recording_is_left_out() -> None:
    here = {"tags", "ps", "delete", "blob-head"}
    assert {*REPLAYED, *ENDING, *ELSEWHERE, *REFUSED, *here} == set(TRANSCRIPT)
    for name, module in ELSEWHERE.items():
        assert f'"{name}"' in (Path(__file__).parent / f"{module}.py").read_text(), name


def last_part(recorded: str) -> str:
    """Long recordings break off; what stands from here on is compared on neither side."""
    if not recorded.endswith("…"):
        return ""
    return ',"tensors":' if ',"tensors":' in recorded else ',"model_info":'


def shape(body: str, last: str = "") -> Any:
    """The body with volatile values replaced by their kind, objects as ordered pairs."""
    if last:
        body = body.partition(last)[0] + "}"
    if body.startswith('{"models":'):
        body = body.partition("}}")[0] + "}}]}"
    elif body.startswith('{"object":"list"'):
        body = body.partition("}")[0] + "}]}"
    elif body.startswith("data: "):
        *chunks, _ = body.split("\n\n")
        body = "\n".join(chunk.removeprefix("data: ") for chunk in chunks if chunk != DONE)
        assert chunks[-1] == DONE
    try:
        return [
            json.loads(line, object_pairs_hook=compared) for line in collapse(body.splitlines())
        ]
    except ValueError:
        return body


def collapse(lines: list[str]) -> list[str]:
    """A stream as its first, second and last line: how many there are depends on the model."""
    return [*lines[:2], lines[-1]] if len(lines) > 3 and '"created' in lines[0] else lines


def compared(pairs: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [masked(key, value) for key, value in pairs if key not in ADDED]


def masked(key: str, value: Any) -> tuple[str, Any]:
    if key in VOLATILE and value not in ("", None):
        return key, type(value).__name__
    if key in ("modelfile", "parameters"):
        # Go writes its map of parameters in random order.
        return key, sorted(mask_digests(value).splitlines())
    return key, mask_digests(value) if isinstance(value, str) else value


def mask_digests(text: str) -> str:
    for separator in ("sha256-", "sha256:"):
        head, found, tail = text.partition(separator)
        if found:
            path, _, _ = head.rpartition("/blobs/")
            text = head.replace(path, "$OLLAMA_MODELS") if path else head
            text += separator + mask_digests(tail[64:])
    return text


def test_tags_lists_the_models_that_were_made(server: RunningServer) -> None:
    answer: Answer = server.request("GET", "/api/tags")
    assert {model["name"] for model in answer.json()["models"]} >= {
        "tiny:latest",
        "chatty:latest",
        "fim:latest",
        "mario:latest",
    }
    assert shape(answer.text)[0][0][0] == shape(TRANSCRIPT["tags"]["body"])[0][0][0]
