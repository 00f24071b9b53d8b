"""One server with models of every kind that sees, and one that doesn't."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.images_api.sights import Sight, add
from tests.support.models import write_model
from tests.support.server import RunningServer, running_server
from tests.support.vision import KINDS, Kind


@pytest.fixture(scope="package")
def sights(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Kind, Sight]:
    folder = tmp_path_factory.mktemp("sights")
    with ThreadPoolExecutor() as pool:
        return dict(zip(KINDS, pool.map(partial(Sight.of, folder), KINDS), strict=True))


@pytest.fixture(scope="package")
def server(
    tmp_path_factory: pytest.TempPathFactory, sights: Mapping[Kind, Sight]
) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("images")
    settings = {"OLLAMA_NUM_PARALLEL": "4", "OLLAMA_MAX_LOADED_MODELS": "8"}
    # With a cache of 16-bit numbers, what is in a batch beside a token changes its probability.
    settings["OLLAMA_KV_CACHE_TYPE"] = "f32"
    with running_server(folder, **settings) as server:
        for kind, sight in sights.items():
            add(server, kind, sight.files.model, sight.files.projector)
        add(server, "blind", write_model(folder / "blind.gguf"))
        yield server


@pytest.fixture(scope="package")
def llava(sights: Mapping[Kind, Sight]) -> Sight:
    return sights["llava"]
