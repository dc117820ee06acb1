"""Re-anchoring (rule 4): no two beats closer than the shorter interval, none further apart than the longer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros.daemon.grid import Grid
from kloros.orchestration.timeline import Timeline, glide, on_grid, re_anchored

SMALL = st.integers(min_value=1, max_value=400)


def first_dues(timeline: Timeline, count: int) -> list[int]:
    return [timeline.at(index) for index in range(count)]


def test_an_entry_on_its_grid() -> None:
    assert first_dues(on_grid(Grid(2, 10), after_us=12), 3) == [22, 32, 42]


def test_a_longer_interval_counts_from_the_last_beat() -> None:
    assert first_dues(re_anchored(last_us=100, now_us=105, interval_us=30), 3) == [130, 160, 190]


def test_a_shorter_interval_that_has_already_passed_is_due_at_once() -> None:
    assert first_dues(re_anchored(last_us=100, now_us=125, interval_us=20), 3) == [125, 145, 165]


def test_from_slow_back_to_the_grid_in_one_step_where_the_gap_allows() -> None:
    assert first_dues(glide(last_us=105, now_us=106, old_interval_us=20, grid=Grid(0, 10)), 3) == [120, 130, 140]


def test_from_slow_back_to_the_grid_in_several_even_steps() -> None:
    assert first_dues(glide(last_us=101, now_us=102, old_interval_us=12, grid=Grid(0, 10)), 7) == [
        112, 124, 136, 148, 160, 170, 180,
    ]  # fmt: skip


def test_from_fast_back_to_the_grid_in_several_even_steps() -> None:
    timeline = glide(last_us=109, now_us=110, old_interval_us=7, grid=Grid(0, 10))
    assert first_dues(timeline, 5) == [116, 123, 130, 140, 150]


def test_equal_intervals_wait_for_the_new_phase() -> None:
    assert first_dues(glide(last_us=100, now_us=101, old_interval_us=10, grid=Grid(3, 10)), 3) == [113, 123, 133]


@given(st.integers(0, 10_000), SMALL, SMALL, SMALL, st.data())
def test_a_glide_keeps_every_gap_between_the_two_intervals(
    last_us: int, old_us: int, nominal_us: int, offset_us: int, data: st.DataObject
) -> None:
    now_us = last_us + data.draw(st.integers(0, old_us - 1), label="since the last beat")
    grid = Grid(offset_us, nominal_us)
    timeline = glide(last_us, now_us, old_us, grid)
    dues = first_dues(timeline, timeline.steps + 3)
    gaps = [later - earlier for earlier, later in zip([last_us, *dues], dues, strict=False)]
    assert dues[0] >= now_us
    assert min(gaps) >= min(old_us, nominal_us)
    assert max(gaps) <= (max(old_us, nominal_us) if old_us != nominal_us else 2 * nominal_us - 1)
    assert all(grid.has(due_us) for due_us in dues[timeline.steps :])


@given(st.integers(0, 300), SMALL, SMALL, SMALL)
def test_a_glide_takes_no_step_more_than_it_must(last_us: int, old_us: int, nominal_us: int, offset_us: int) -> None:
    grid = Grid(offset_us, nominal_us)
    shorter_us, longer_us = sorted((old_us, nominal_us))
    steps = glide(last_us, last_us, old_us, grid).steps
    for fewer in range(1, steps + 1):
        assert grid.due_at_or_after(last_us + fewer * shorter_us) > last_us + fewer * longer_us


@given(st.integers(0, 500), st.integers(0, 12), st.integers(0, 200), SMALL, st.integers(-50, 3_000))
def test_rank_counts_the_moments_up_to_a_time(first: int, steps: int, extra: int, interval: int, t_us: int) -> None:
    timeline = Timeline(first, steps, first + steps + (extra if steps else 0), interval)
    rank = timeline.rank(t_us)
    assert timeline.at(rank) > t_us
    assert rank == 0 or timeline.at(rank - 1) <= t_us


@pytest.mark.parametrize("fields", [(0, 0, 0, 0), (0, -1, 0, 5), (9, 3, 10, 5)])
def test_a_timeline_that_stands_still_is_refused(fields: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="must follow one another"):
        Timeline(*fields)
