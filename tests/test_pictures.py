"""Images in sequences of tokens: where they lie, and what must never be cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaherd.engine.pictures import NO_PICTURES, Picture, Stretches, weave
from llamaherd.errors import PromptError
from tests.support.engine import make_picture

#: Token 1, a picture of 4 on a grid, that takes 2 positions, token 2, one of 3, and token 3.
GRID, ROW = make_picture(1, 4, grid=True), make_picture(2, 3)
CELLS, PICTURES = weave([1, 2, 3], [(1, [GRID]), (2, [ROW])])


def picture_at(pictures: Stretches, index: int) -> Picture | None:
    stretch = pictures.at(index)
    return None if stretch is None else stretch.picture


def test_images_stand_before_the_tokens_at_their_places() -> None:
    assert [1, *GRID.cells(), 2, *ROW.cells(), 3] == CELLS
    cells, _ = weave([1], [(0, [[7, 8], ROW, [9]]), (1, [GRID])])
    assert cells == [7, 8, *ROW.cells(), 9, 1, *GRID.cells()]


def test_every_cell_of_every_image_has_a_number_of_its_own_below_0() -> None:
    numbers = [cell for key in (0, 1, 2**256) for cell in make_picture(key, 5).cells()]
    assert len(set(numbers)) == 15
    assert max(numbers) < 0
    assert make_picture(1, 5).cells()[:4] == GRID.cells()


def test_without_images_a_prompt_is_its_tokens() -> None:
    cells, pictures = weave([1, 2], [])
    assert cells == [1, 2]
    assert not pictures
    assert (pictures.position(2), pictures.whole(1), pictures.tokens_from(0, 9)) == (2, 1, 9)


@pytest.mark.parametrize("places", [[4], [-1], [2, 1]])
def test_images_outside_the_prompt_or_its_order_are_refused(places: list[int]) -> None:
    with pytest.raises(PromptError, match=r"an image stands at -?\d in a prompt of 3 tokens"):
        weave([1, 2, 3], [(place, [ROW]) for place in places])


def test_positions_are_fewer_than_cells_where_a_grid_lies_before() -> None:
    assert [PICTURES.position(index) for index in (0, 1, 5, 6, 9, 10)] == [0, 1, 3, 4, 7, 8]


def test_what_can_be_evaluated_next() -> None:
    assert PICTURES.at(0) is None
    assert picture_at(PICTURES, 1) is GRID
    assert picture_at(PICTURES, 4) is GRID
    assert PICTURES.at(5) is None
    assert PICTURES.tokens_from(0, 10) == 1
    assert PICTURES.tokens_from(5, 10) == 1
    assert PICTURES.tokens_from(9, 10) == 10


def test_no_picture_is_cut() -> None:
    assert [PICTURES.whole(length) for length in range(11)] == [0, 1, 1, 1, 1, 5, 6, 6, 6, 9, 10]
    ends = [PICTURES.whole_end(length) for length in range(11)]
    assert ends == [0, 1, 5, 5, 5, 5, 6, 9, 9, 9, 10]


def test_what_a_cut_would_touch() -> None:
    within, beside = [(0, 2), (1, 2), (2, 4), (4, 6), (4, 7), (0, 10), (5, 7)], [(0, 1), (5, 6)]
    assert all(PICTURES.any_in(start, end) for start, end in within)
    assert not any(PICTURES.any_in(start, end) for start, end in [*beside, (9, 10)])
    assert not NO_PICTURES.any_in(0, 9)


def test_what_is_kept_of_a_finished_sequence_has_no_embeddings_any_more() -> None:
    first = PICTURES.first(6)
    assert first.at(1) is not None
    assert picture_at(first, 1) is None
    assert first.at(6) is None
    assert first.position(6) == PICTURES.position(6)


def test_pictures_behind_cells_that_go_move() -> None:
    rest = PICTURES.without(1, 6)
    assert picture_at(rest, 1) is ROW
    assert rest.position(4) == 4
    assert not PICTURES.without(0, 10)


def test_embeddings_move_with_the_beginning_of_their_picture() -> None:
    shown = GRID.shown(10, 2, 2)
    assert shown.positions.tolist() == [[10, 10], [11, 11], [10, 11], [10, 10]]
    assert np.array_equal(shown.embeddings, GRID.embeddings[2:])


def test_axes_that_do_not_move_stay() -> None:
    fixed = np.array([[0], [5]], np.int32)
    picture = Picture(
        0, np.zeros((1, 1), np.float32), fixed, np.array([[1], [0]], np.int32), 1, False
    )
    assert picture.shown(7, 0, 1).positions.tolist() == [[7], [5]]


def test_only_pictures_whose_embeddings_see_each_other_must_fit_into_a_batch() -> None:
    _, pictures = weave([1], [(0, [make_picture(1, 9), make_picture(2, 4, mutual=True)])])
    assert (pictures.longest_mutual, NO_PICTURES.longest_mutual) == (4, 0)


@st.composite
def woven(draw: st.DrawFn) -> tuple[list[int], Stretches]:
    """Cells with pictures anywhere among them."""
    tokens = list(range(draw(st.integers(0, 6))))
    places = sorted(draw(st.lists(st.integers(0, len(tokens)), max_size=4)))
    images = [
        (place, [make_picture(key, draw(st.integers(1, 5)), grid=draw(st.booleans()))])
        for key, place in enumerate(places)
    ]
    return weave(tokens, images)


@given(woven())
def test_lengths_without_a_part_of_a_picture_surround_every_length(
    prompt: tuple[list[int], Stretches],
) -> None:
    cells, pictures = prompt
    for length in range(len(cells) + 1):
        low, high = pictures.whole(length), pictures.whole_end(length)
        assert low <= length <= high <= len(cells)
        inside = 0 < length < len(cells) and cells[length - 1] == cells[length] + 1 < 0
        assert (low < length < high) == inside
        for end in (low, high):
            assert pictures.whole(end) == pictures.whole_end(end) == end


@given(woven())
def test_positions_never_go_back(prompt: tuple[list[int], Stretches]) -> None:
    cells, pictures = prompt
    ends = sorted({pictures.whole(length) for length in range(len(cells) + 1)})
    positions = [pictures.position(end) for end in ends]
    assert positions == sorted(set(positions))
    assert all(position <= end for position, end in zip(positions, ends, strict=True))
