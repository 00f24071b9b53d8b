"""Texts that go on and on without a break.

With most BPE vocabularies llama.cpp cuts texts by std::regex, which would overflow the stack.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaherd.cria.bundle import WEIGHTS
from llamaherd.errors import BadRequest
from llamaherd.grammar import Grammar
from llamaherd.llama.stack import longest_run
from llamaherd.llama.vocabulary import LONGEST_RUN
from llamaherd.runner.process import Runner
from llamaherd.runner.protocol import Chunk, Finished, Load, Sampling

#: More than twice what the usual stack of 8 MB is enough for.
LONG = 60_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cria with its texts cut as GPT-4o's are; the name is as long, so that nothing moves."""
    path = tmp_path_factory.mktemp("unbroken") / "cut.gguf"
    weights = WEIGHTS.read_bytes()
    assert weights.count(b"\0smollm") == 1
    path.write_bytes(weights.replace(b"\0smollm", b"\0gpt-4o"))
    return path


@pytest.fixture(scope="module")
async def runner(model: Path, anyio_backend: str) -> AsyncIterator[Runner]:
    runner = await Runner.start(Load(str(model), n_ctx=256))
    yield runner
    await runner.stop()


@pytest.mark.anyio
@pytest.mark.parametrize("character", ["a", "=", " ", "\n", "日"])
async def test_are_tokenized(runner: Runner, character: str) -> None:
    text = character * LONG
    tokens = await runner.tokenize(text, add_special=False)
    assert await runner.detokenize(tokens) == text


@pytest.mark.anyio
async def test_beyond_all_bounds_are_refused(runner: Runner) -> None:
    with pytest.raises(BadRequest, match=f"without white space.*, at most {LONGEST_RUN}"):
        await runner.tokenize("a" * 2 * LONGEST_RUN)
    assert await runner.tokenize("a")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "grammar",
    [
        Grammar("schema", f'{{"const": "{"a" * LONG}"}}'),
        Grammar("grammar", f"start: /a{{{LONG}}}/"),
    ],
    ids=["const", "pattern"],
)
async def test_may_be_what_a_form_wants(runner: Runner, grammar: Grammar) -> None:
    prompt = await runner.tokenize("Say it.")
    reply = runner.generate(prompt, Sampling(temperature=0), num_predict=8, grammar=grammar)
    *chunks, last = [message async for message in reply]
    text = "".join(chunk.text for chunk in chunks if isinstance(chunk, Chunk))
    assert re.fullmatch('"?a+', text)
    assert isinstance(last, Finished)
    assert last.reason == "length"


@given(
    st.lists(
        st.builds(
            lambda piece, count: piece * count,
            st.sampled_from(["a", " ", "\n", "=", "ab ", "日本"]),
            st.integers(1, 9000),
        ),
        max_size=6,
    ).map("".join)
)
def test_no_text_with_the_white_space_behind_it_is_longer_than_was_thought(text: str) -> None:
    longest = max(map(len, re.findall(r"\S*\s*", text)))
    assert longest_run(text) >= longest


def test_prose_has_no_long_runs() -> None:
    assert longest_run("Once upon a time " * 1000) == longest_run("")
