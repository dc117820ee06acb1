"""The beat arithmetic that scheduler and fallback share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros.daemon.grid import Grid, beat_number, due_of_beat

MOMENTS = st.integers(min_value=-(10**17), max_value=10**17)
INTERVALS = st.integers(min_value=1, max_value=10**13)


def test_a_moment_on_the_grid_is_its_own_neighbour() -> None:
    grid = Grid(anchor_us=3, interval_us=10)
    assert grid.has(23)
    assert grid.due_at_or_before(23) == grid.due_at_or_after(23) == 23
    assert grid.due_after(23) == 33


def test_a_moment_between_two_beats() -> None:
    grid = Grid(anchor_us=3, interval_us=10)
    assert not grid.has(30)
    assert (grid.due_at_or_before(30), grid.due_at_or_after(30), grid.due_after(30)) == (23, 33, 33)


def test_beats_between_leaves_out_the_start_and_keeps_the_end() -> None:
    grid = Grid(anchor_us=0, interval_us=5)
    assert list(grid.beats_between(5, 20)) == [10, 15, 20]
    assert len(grid.beats_between(20, 5)) == 0


def test_counting_a_year_of_beats_walks_none_of_them() -> None:
    assert len(Grid(0, 1).beats_between(0, 31_536_000_000_000)) == 31_536_000_000_000


@given(MOMENTS, MOMENTS, INTERVALS)
def test_neighbours_enclose_every_moment(t_us: int, anchor_us: int, interval_us: int) -> None:
    grid = Grid(anchor_us, interval_us)
    before, at_or_after, after = grid.due_at_or_before(t_us), grid.due_at_or_after(t_us), grid.due_after(t_us)
    assert all(grid.has(moment) for moment in (before, at_or_after, after))
    assert before <= t_us < after == before + interval_us
    assert at_or_after == (t_us if grid.has(t_us) else after)


@given(MOMENTS, st.integers(min_value=0, max_value=10**9), st.integers(min_value=1, max_value=10**9))
def test_beats_are_numbered_one_after_the_other(t_us: int, offset_us: int, interval_us: int) -> None:
    due_us = Grid(offset_us, interval_us).due_at_or_before(t_us)
    beat = beat_number(due_us, offset_us, interval_us)
    assert due_of_beat(beat, offset_us, interval_us) == due_us
    assert beat_number(due_us + interval_us, offset_us, interval_us) == beat + 1
    assert beat_number(due_us + interval_us - 1, offset_us, interval_us) == beat


@pytest.mark.parametrize("interval_us", [0, -5])
def test_no_grid_without_an_interval(interval_us: int) -> None:
    with pytest.raises(ValueError, match="at least 1 µs"):
        Grid(0, interval_us)
