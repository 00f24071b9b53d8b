"""Models that see: made, shown, pushed and pulled, and those whose projector is broken."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.images_api.sights import CAT, Sight, add, b64
from tests.support.cli import ollama
from tests.support.registry import fake_registry
from tests.support.server import Answer, RunningServer, digest_of


def look(server: RunningServer, model: str) -> Answer:
    asked = {"model": model, "prompt": "What is it?", "images": [b64(CAT)], "stream": False}
    return server.post("/api/generate", **asked)


def test_a_modelfile_names_both_files(server: RunningServer, llava: Sight, tmp_path: Path) -> None:
    """And what is shown of the model makes it again."""
    text = f"FROM {llava.files.model}\nFROM {llava.files.projector}\nPARAMETER temperature 0\n"
    for name in ("written", "again"):
        file = tmp_path / "Modelfile"
        file.write_text(text)
        done = ollama("create", name, "-f", str(file), host=server.host, folder=tmp_path)
        assert done.code == 0, done.stderr
        text = server.post("/api/show", model=name).json()["modelfile"]
    shown = server.post("/api/show", model="again").json()
    assert shown["capabilities"] == ["completion", "vision"]
    assert shown["details"]["families"] == ["llama", "clip"]
    information = shown["projector_info"]
    assert information["general.architecture"] == "clip"
    assert information["clip.has_vision_encoder"] is True
    assert information["clip.vision.projection_dim"] == 64
    assert "projector_info" not in server.post("/api/show", model="blind").json()
    told = ollama("show", "again", host=server.host).stdout
    assert "  Capabilities\n    completion    \n    vision        \n" in told
    assert "  Projector\n    architecture        clip    \n" in told


def test_pushed_and_pulled_it_still_sees(server: RunningServer, llava: Sight) -> None:
    with fake_registry() as registry:
        name = f"{registry.host}/ns/eye"
        assert server.post("/api/copy", source="llava", destination=name).status == 200
        assert server.post("/api/push", model=name, insecure=True).lines()[-1] == {
            "status": "success"
        }
        assert server.request("DELETE", "/api/delete", {"model": name}).status == 200
        assert look(server, "llava").json()["response"] == llava.text("cat"), "it has its files"
        assert look(server, name).status == 404
        assert server.post("/api/pull", model=name, insecure=True).lines()[-1] == {
            "status": "success"
        }
        assert look(server, name).json()["response"] == llava.text("cat")


def test_a_model_made_of_one_that_sees_sees(server: RunningServer, llava: Sight) -> None:
    server.create("mario", "llava", system="You are Mario.")
    assert server.post("/api/show", model="mario").json()["capabilities"][1] == "vision"
    server.create("plain", "llava", quantize="Q8_0")
    assert look(server, "plain").status == 200
    assert look(server, "llava").json()["response"] == llava.text("cat")


@pytest.mark.parametrize("parts", [1, 2])
def test_a_projector_alone_is_no_model(
    server: RunningServer, llava: Sight, sights: dict[str, Sight], parts: int
) -> None:
    files = [llava.files.projector, sights["gemma3"].files.projector][:parts]
    for file in files:
        server.upload(file, digest_of(file.read_bytes()))
    named = {file.name: digest_of(file.read_bytes()) for file in files}
    answer = server.post("/api/create", model="eye", files=named)
    assert answer.lines()[-1] == {
        "error": "files must hold exactly one model, not parts of one or several",
        "status": 400,
    }


# --- broken projectors --------------------------------------------------------------------------


def without(content: bytes, name: str) -> bytes:
    """A projector in which a tensor has another name."""
    assert content.count(name.encode()) == 1
    return content.replace(name.encode(), f"{name[:-1]}?".encode())


def with_value(content: bytes, key: str, value: int) -> bytes:
    """A projector in which a key has another value."""
    at = content.index(key.encode()) + len(key) + 4
    return content[:at] + struct.pack("<I", value) + content[at + 4 :]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("v.patch_embd.weight", "model runner has unexpectedly stopped: killed by SIGSEGV"),
        ("mm.2.bias", "model runner has unexpectedly stopped: killed by SIGSEGV"),
        ("v.blk.1.attn_out.weight", "unable to find tensor v.blk.1.attn_out.weight"),
    ],
)
def test_a_projector_without_a_tensor_is_named(
    server: RunningServer, llava: Sight, tmp_path: Path, name: str, reason: str
) -> None:
    """libmtmd crashes for want of some; the server goes on all the same."""
    projector = tmp_path / "projector.gguf"
    projector.write_bytes(without(llava.files.projector.read_bytes(), name))
    add(server, "broken", llava.files.model, projector)
    path = (
        server.post("/api/show", model="broken").json()["modelfile"].split("FROM ")[-1].split()[0]
    )
    answer = look(server, "broken")
    assert answer.status == 500
    message = answer.json()["error"]
    assert message.startswith("error loading model ")
    assert f"projector {path}: " in message
    assert message.endswith(reason)
    assert look(server, "llava").json()["response"] == llava.text("cat")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("clip.vision.patch_size", 7),
        ("clip.vision.image_size", 100),
    ],
)
def test_a_projector_of_wrong_numbers_ends_only_its_runner(
    server: RunningServer, llava: Sight, tmp_path: Path, key: str, value: int
) -> None:
    projector = tmp_path / "projector.gguf"
    projector.write_bytes(with_value(llava.files.projector.read_bytes(), key, value))
    add(server, "broken", llava.files.model, projector)
    answer = look(server, "broken")
    assert answer.status == 500
    assert "unexpectedly stopped" in answer.json()["error"]
    assert "GGML_ASSERT" in answer.json()["error"]
    assert look(server, "llava").json()["response"] == llava.text("cat")


def test_a_cut_projector_does_not_get_into_the_store(
    server: RunningServer, llava: Sight, tmp_path: Path
) -> None:
    projector = tmp_path / "projector.gguf"
    projector.write_bytes(llava.files.projector.read_bytes()[:-1000])
    files = {}
    for file in (llava.files.model, projector):
        files[file.name] = digest_of(file.read_bytes())
        server.upload(file, files[file.name])
    (*_, last) = server.post("/api/create", model="cut", files=files).lines()
    assert "is truncated: tensor " in last["error"]
    assert look(server, "cut").status == 404


def test_a_projector_that_is_gone_is_missed(
    server: RunningServer, llava: Sight, tmp_path: Path
) -> None:
    projector = tmp_path / "projector.gguf"
    projector.write_bytes(with_value(llava.files.projector.read_bytes(), "general.file_type", 1))
    add(server, "gone", llava.files.model, projector)
    shown = server.post("/api/show", model="gone").json()["modelfile"]
    path = Path(shown.split("FROM ")[-1].split()[0])
    path.unlink()
    answer = look(server, "gone")
    assert answer.status == 500
    assert f"projector {path}: there is no such file" in answer.json()["error"]
    assert str(path) in server.post("/api/show", model="gone").json()["error"]
