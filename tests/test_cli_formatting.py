"""Sizes, times and tables look as they do in Ollama."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaherd.cli.formatting import (
    cell_width,
    excerpt,
    human_bytes,
    human_time,
    parse_time,
    table,
)
from llamaherd.cli.listings import processor, running_models, stored_models
from llamaherd.cli.show import model_report
from llamaherd.errors import LlamaherdError
from tests.support.cli import recorded

NOW = datetime(2026, 11, 20, 21, 8, 53, tzinfo=UTC)
MODELS = json.loads((Path(__file__).parent / "data" / "cli-show.json").read_text())


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (168, "168 B"),
        (1000, "1 KB"),
        (1500, "1.5 KB"),
        (999_999, "999 KB"),
        (1_054_848, "1.1 MB"),
        (46_220_582, "46 MB"),
        (4_683_075_271, "4.7 GB"),
        (42_999_999_999, "42 GB"),
        (2 * 10**12, "2 TB"),
    ],
)
def test_sizes_are_decimal_with_one_digit_below_ten(size: int, text: str) -> None:
    assert human_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "Less than a second ago"),
        (1, "1 second ago"),
        (36, "36 seconds ago"),
        (60, "About a minute ago"),
        (119, "About a minute ago"),
        (300, "5 minutes ago"),
        (3600, "About an hour ago"),
        (5400, "2 hours ago"),
        (47 * 3600, "47 hours ago"),
        (48 * 3600, "2 days ago"),
        (13 * 86400, "13 days ago"),
        (14 * 86400, "2 weeks ago"),
        (59 * 86400, "8 weeks ago"),
        (60 * 86400, "2 months ago"),
        (729 * 86400, "24 months ago"),
        (730 * 86400, "2 years ago"),
        (-0.4, "Less than a second from now"),
        (-299, "4 minutes from now"),
        (-86400 * 365 * 21, "Forever"),
    ],
)
def test_times_are_told_from_now(seconds: float, text: str) -> None:
    assert human_time(NOW - timedelta(seconds=seconds), NOW) == text


def test_no_time_at_all_is_never() -> None:
    assert human_time(parse_time("0001-01-01T00:00:00Z"), NOW) == "Never"


def test_times_of_the_api_have_nanoseconds_and_zones() -> None:
    assert parse_time("2026-11-20T21:03:15.429957909Z").microsecond == 429957
    assert parse_time("2025-05-10T08:06:48.639712648-07:00").hour == 8


def test_a_time_that_is_none_is_reported_as_the_servers_mistake() -> None:
    with pytest.raises(LlamaherdError, match="the server sent 'yesterday' where a time"):
        parse_time("yesterday")


def stored(name: str, digest: str, size: int, seconds: int) -> dict[str, object]:
    modified = (NOW - timedelta(seconds=seconds)).isoformat()
    return {"name": name, "digest": digest + "0" * 52, "size": size, "modified_at": modified}


STORED = [
    stored("c1:latest", "fc13e8bb76e5", 1_054_806, 36),
    stored("c2:latest", "31237ad1b7de", 168, 36),
    stored("c5:latest", "c61bb58c3c9e", 1_054_833, 36),
    stored("tiny:latest", "6cbd5b96bebf", 1_054_730, 337),
    stored("fim:latest", "cf6ddb529229", 1_054_848, 337),
    stored("thinky:latest", "f26ed329ce54", 1_054_930, 337),
    stored("chatty:latest", "31e8bae3cb0a", 1_055_086, 337),
    stored("mario:latest", "109481d1d24d", 1_055_260, 337),
    stored("minilm:latest", "e94da885c8f6", 46_220_582, 337),
]


def test_the_list_is_laid_out_as_ollamas() -> None:
    assert stored_models(STORED, "", NOW) == recorded("list").stdout


@pytest.mark.parametrize("prefix", ["tiny", "TINY:l"])
def test_the_list_of_a_prefix_ignores_case(prefix: str) -> None:
    assert stored_models(STORED, prefix, NOW) == recorded("ls tiny").stdout


def test_a_list_of_nothing_is_its_header() -> None:
    assert stored_models(STORED, "nosuch", NOW) == recorded("list nosuch").stdout


def test_running_models_say_where_they_are_and_until_when() -> None:
    def running(name: str, size: int, vram: int, seconds: int) -> dict[str, object]:
        model = stored(name, "e94da885c8f6", size, -seconds)
        return {**model, "size_vram": vram, "expires_at": model["modified_at"]}

    models = [
        running("minilm:latest", 53_334_016, 0, 298),
        running("llama3:70b", 42 * 10**9, 42 * 10**9, 10**10),
        running("half:latest", 100 * 10**9, 52 * 10**9, -3),
    ]
    assert running_models(models, "", NOW) == (
        "NAME             ID              SIZE      PROCESSOR          UNTIL              \n"
        "minilm:latest    e94da885c8f6    53 MB     100% CPU           4 minutes from now    \n"
        "llama3:70b       e94da885c8f6    42 GB     100% GPU           Forever               \n"
        "half:latest      e94da885c8f6    100 GB    48%/52% CPU/GPU    Stopping...           \n"
    )


@given(st.integers(1, 10**12), st.integers(1, 10**12))
def test_the_shares_of_processors_are_a_whole(one: int, other: int) -> None:
    shares = processor(one + other, other)
    cpu, gpu = shares.removesuffix(" CPU/GPU").split("/")
    assert int(cpu[:-1]) + int(gpu[:-1]) == 100


@pytest.mark.parametrize("name", ["mario", "minilm"])
def test_the_report_on_a_model_is_laid_out_as_ollamas(name: str) -> None:
    assert model_report(MODELS[name]) == recorded(f"show {name}").stdout


def test_the_verbose_report_adds_metadata_and_tensors() -> None:
    model = {
        "model_info": {
            "b.ok": True,
            "a.eps": 1e-05,
            "c.list": list(range(30)),
            "d.none": None,
            "e.few": [-1000, 0.5],
            "f.large": 3_212_749_888,
            "g.size": 131_072,
        },
        "tensors": [{"name": "output.weight", "type": "F32", "shape": [64, 512]}],
    }
    _, metadata, tensors = model_report(model, verbose=True).rstrip("\n").split("\n\n")
    assert [line.rstrip() for line in metadata.splitlines()] == [
        "  Metadata",
        "    a.eps      1e-05",
        "    b.ok       true",
        "    c.list     [0 1 2 ...+27 more]",
        "    d.none     <nil>",
        "    e.few      [-1000 ...+1 more]",
        "    f.large    3.212749888e+09",
        "    g.size     131072",
    ]
    assert [line.rstrip() for line in tensors.splitlines()] == [
        "  Tensors",
        "    output.weight    F32    [64 512]",
    ]


def test_a_vision_models_projector_has_its_section() -> None:
    projector = {
        "general.architecture": "clip",
        "general.parameter_count": 311_885_824,
        "clip.vision.embedding_length": 1024,
        "clip.vision.projection_dim": 768,
    }
    _, section = model_report({"projector_info": projector}).rstrip().split("\n\n")
    assert [line.rstrip() for line in section.splitlines()] == [
        "  Projector",
        "    architecture        clip",
        "    parameters          311.89M",
        "    embedding length    1024",
        "    dimensions          768",
    ]


def test_long_texts_are_cut_to_two_lines_and_wrapped() -> None:
    text = "\n\n".join(["word " * 30, "second", "third"])
    assert excerpt(text, 2, 100) == [
        (" ".join(["word"] * 20),),
        (" ".join(["word"] * 10),),
        ("second",),
        ("...",),
    ]


def test_columns_align_by_what_a_terminal_shows() -> None:
    assert cell_width("日本e\u0301🙂") == 7
    assert table([("日本", "x"), ("abcd", "y")]) == "日本    x    \nabcd    y    \n"


def test_rows_may_have_fewer_cells_than_others() -> None:
    assert table([("a",), ("b", "c")]) == "a    \nb    c    \n"
