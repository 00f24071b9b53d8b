"""Where images stand in prompts, and what of a prompt is read again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.images_api.sights import BIRD, CAT, DOG, TOKENS, Sight, b64
from tests.support.server import RunningServer
from tests.support.vision import KINDS, Kind


def generate(server: RunningServer, prompt: str, *images: bytes, **request: Any) -> dict[str, Any]:
    asked = {"model": "llava", "prompt": prompt, "images": [b64(image) for image in images]}
    answer = server.post("/api/generate", **{**asked, "stream": False, **request})
    assert answer.status == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def chat(server: RunningServer, *talk: dict[str, Any], **request: Any) -> dict[str, Any]:
    answer = server.post(
        "/api/chat", **{"model": "llava", "messages": talk, "stream": False, **request}
    )
    assert answer.status == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def user(content: str, *images: bytes) -> dict[str, Any]:
    return {"role": "user", "content": content, "images": [b64(image) for image in images]}


def assistant(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def test_images_stand_in_front_or_where_the_text_says(server: RunningServer, llava: Sight) -> None:
    for name, prompt in {
        "both": "What is it?",
        "placed": "Is [img] like [img]?",
        "labelled": "The first:\n\n[img-0]\n\nThe second:\n\n[img-1]",
    }.items():
        assert generate(server, prompt, CAT, DOG)["response"] == llava.text(name), name
        said = chat(server, user(prompt, CAT, DOG))["message"]["content"]
        assert said == llava.text(name), name


def test_raw_prompts_say_where(server: RunningServer, llava: Sight) -> None:
    for prompt in ("Once [img-0] upon [img-1] a time", "Once [img] upon [img] a time"):
        found = generate(server, prompt, DOG, CAT, raw=True)
        assert found["response"] == llava.text("raw")
        assert found["prompt_eval_count"] == llava.count("raw")
    found = generate(server, "Once [img-1] upon [img-0] a time", CAT, DOG, raw=True)
    assert found["response"] == llava.text("raw")


def test_tags_of_no_image_are_text(server: RunningServer) -> None:
    """As a user may write them; each image is shown once."""
    one = generate(server, "See [img-0].", CAT, raw=True)["prompt_eval_count"]
    two = generate(server, "See [img-0]. See [img-0].", CAT, raw=True)["prompt_eval_count"]
    far = generate(server, "See [img-0]. See [img-99].", CAT, raw=True)["prompt_eval_count"]
    assert one < min(two, far) <= max(two, far) < one + TOKENS


def test_the_rendered_prompt_has_tags(server: RunningServer) -> None:
    talk = [user("What is it?", CAT), assistant("A cat."), user("Like [img]?", DOG)]
    shown = chat(server, *talk, _debug_render_only=True)
    assert shown["_debug_info"] == {
        "rendered_template": (
            "<user>[img-0]What is it?\n<assistant>A cat.\n<user>Like [img-1]?\n<assistant>"
        ),
        "image_count": 2,
    }
    shown = generate(server, "What is it?", CAT, DOG, _debug_render_only=True)
    assert shown["_debug_info"] == {
        "rendered_template": "<user>[img-0][img-1]What is it?\n<assistant>",
        "image_count": 2,
    }


def test_a_model_may_begin_with_images(server: RunningServer, llava: Sight) -> None:
    """Its stored messages come before those of the request."""
    stored = [user("What is it?", CAT), assistant("A cat.")]
    server.create("taught", "llava", messages=stored)
    found = chat(server, user("Really?"), model="taught")
    assert found["message"]["content"] == llava.text("later")
    assert generate(server, "And this?", DOG, model="taught")["response"] == llava.text("two turns")


def test_the_context_of_a_reply_has_no_images(server: RunningServer) -> None:
    """It is tokens only, as Ollama's; so its text is gone on from without what was seen."""
    first = generate(server, "What is it?", CAT)
    assert len(first["context"]) < first["prompt_eval_count"]
    found = generate(server, "And this?", DOG, context=first["context"])
    assert found["eval_count"] == 8
    assert found["prompt_eval_count"] > len(first["context"]) + 16


def test_log_probabilities_and_formats_go_with_images(server: RunningServer) -> None:
    found = generate(server, "What is it?", CAT, logprobs=True, top_logprobs=2)
    assert len(found["logprobs"]) == 8
    options = {"num_predict": 60}
    found = generate(server, "What is it?", CAT, format={"enum": ["cat", "dog"]}, options=options)
    assert found["response"] in ('"cat"', '"dog"')


# --- what was read already ----------------------------------------------------------------------


def cached(server: RunningServer, kind: Kind, *talk: dict[str, Any]) -> tuple[str, int]:
    """The reply, and how many tokens of the prompt were there already."""
    messages = []
    for message in talk:
        parts: list[Any] = [
            {"type": "image_url", "image_url": {"url": f"data:;base64,{image}"}}
            for image in message.get("images", [])
        ]
        parts.append({"type": "text", "text": message["content"]})
        messages.append({"role": message["role"], "content": parts})
    found = server.post(
        "/v1/chat/completions", model=kind, messages=messages, temperature=0, max_tokens=8
    ).json()
    return (
        found["choices"][0]["message"]["content"],
        (found["usage"].get("prompt_tokens_details") or {}).get("cached_tokens", 0),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_conversation_reads_its_image_once(
    server: RunningServer, sights: Mapping[Kind, Sight], kind: Kind
) -> None:
    """And another image in the same place is never taken for it."""
    sight = sights[kind]
    rest = [assistant("A cat."), user("Really?")]
    assert cached(server, kind, user("What is it?", CAT))[0] == sight.text("cat")
    said, count = cached(server, kind, user("What is it?", CAT), *rest)
    assert said == sight.text("later")
    assert count >= sight.count("cat") - 1
    said, count = cached(server, kind, user("What is it?", BIRD), *rest)
    assert said == sight.text("other later")
    assert count < 10, "what stands before the image, as tokens around it"
    assert cached(server, kind, user("What is it?", CAT), *rest) == (
        sight.text("later"),
        sight.count("later") - 1,
    )


# --- contexts -----------------------------------------------------------------------------------


def test_old_messages_are_dropped_with_their_images(server: RunningServer) -> None:
    talk = [user(f"Picture {number}", CAT if number % 2 else DOG) for number in range(40)]
    found = chat(server, *talk, user("What is it?", CAT))
    assert found["prompt_eval_count"] <= 512
    shown = chat(server, *talk, user("What is it?", CAT), _debug_render_only=True)["_debug_info"]
    assert shown["rendered_template"].count("[img-") == shown["image_count"] < 41
    assert shown["rendered_template"].endswith("What is it?\n<assistant>")


def test_a_reply_goes_on_when_the_context_is_full(server: RunningServer) -> None:
    """The image goes whole; ``num_keep`` would have kept the beginning of it."""
    options = {"num_ctx": 64, "num_predict": 150, "num_keep": 10}
    found = generate(server, "What is it?", CAT, model="qwen2vl", options=options)
    assert found["eval_count"] == 150 or found["done_reason"] == "stop"


@pytest.mark.parametrize("n_ctx", [17, 24], ids=["no room for the image", "nor for the text"])
@pytest.mark.parametrize("endpoint", ["generate", "chat"])
def test_prompts_longer_than_the_context_are_refused(
    server: RunningServer, sights: Mapping[Kind, Sight], endpoint: str, n_ctx: int
) -> None:
    """Where the image would have to go; the messages before it may."""
    size = sights["gemma3"].count("cat")
    asked: dict[str, Any] = {"model": "gemma3", "stream": False, "options": {"num_ctx": n_ctx}}
    if endpoint == "chat":
        old = [user("What is it?", DOG), assistant("A dog.")]
        asked |= {"messages": [*old, user("What is it?", CAT)]}
    else:
        asked |= {"prompt": "What is it?", "images": [b64(CAT)]}
    answer = server.post(f"/api/{endpoint}", **asked, truncate=False)
    assert answer.status == 400, answer.text
    assert answer.json()["error"] == "the input length exceeds the context length"
    answer = server.post(f"/api/{endpoint}", **asked)
    assert answer.status == 400, answer.text
    assert answer.json()["error"] == (
        f"the prompt takes {size} tokens, 18 of them for images, and can't be cut to fit the"
        f" context of {n_ctx}"
    )
    asked["options"] = {"num_ctx": size}
    answer = server.post(f"/api/{endpoint}", **asked)
    assert answer.json()["prompt_eval_count"] == size


def test_the_smallest_batches(server: RunningServer, sights: Mapping[Kind, Sight]) -> None:
    """Also of a model whose images are read in one piece."""
    for kind in ("gemma3", "qwen2vl"):
        found = generate(server, "What is it?", CAT, model=kind, options={"num_batch": 1})
        assert found["response"] == sights[kind].text("cat"), kind
