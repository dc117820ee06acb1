"""How modules do."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros.optimisation.profiler import Profiler, nearest_rank

S = 1_000_000
NOW = 1000 * S


@pytest.mark.parametrize(
    ("percent", "expected"), [(50, 50), (95, 95), (99, 99), (100, 100), (0, 1), (0.5, 1), (1, 1), (1.01, 2)]
)
def test_percentiles_are_by_nearest_rank(percent: float, expected: float) -> None:
    assert nearest_rank([float(each) for each in range(1, 101)], percent) == expected


@given(st.lists(st.floats(0, 1e9), min_size=1), st.floats(0.01, 100))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(values: list[float], percent: float) -> None:
    ranked = sorted(values)
    found = nearest_rank(ranked, percent)
    assert found in ranked
    assert sum(each <= found for each in ranked) >= percent / 100 * len(ranked) - 1e-9


def test_figures_are_of_one_and_the_same_window() -> None:
    profiler = Profiler()
    for age_s in range(120, 0, -1):
        profiler.record("alpha", float(age_s), NOW - age_s * S, is_error=age_s % 10 == 0)
    found = profiler.figures("alpha", NOW)
    assert found is not None
    assert (found.calls, found.errors) == (59, 5)
    assert (found.p50_ms, found.p95_ms, found.p99_ms, found.max_ms) == (30, 57, 59, 59)
    assert found.throughput_rps == pytest.approx(59 / 60)
    assert found.error_rate == pytest.approx(5 / 59)


def test_a_silent_module_stays_visible() -> None:
    profiler = Profiler()
    profiler.know("beta")
    profiler.record("alpha", 1.0, NOW - 100 * S)
    assert {each.module_name: each.is_silent for each in profiler.report(NOW)} == {"alpha": True, "beta": True}
    found = profiler.figures("alpha", NOW)
    assert found is not None
    assert (found.calls, found.p99_ms, found.error_rate, found.last_seen_us) == (0, 0.0, 0.0, NOW - 100 * S)
    assert profiler.figures("nobody", NOW) is None
    profiler.forget("alpha")
    assert profiler.modules == ("beta",)


def test_only_what_came_since_a_change_is_looked_at() -> None:
    profiler = Profiler()
    for age_s in range(50, 0, -1):
        profiler.record("alpha", float(age_s), NOW - age_s * S)
    found = profiler.figures("alpha", NOW, since_us=NOW - 10 * S)
    assert found is not None
    assert (found.calls, found.max_ms) == (10, 10.0)
    assert found.throughput_rps == pytest.approx(1.0, rel=0.01)


def test_there_is_room_for_so_many_and_throughput_is_then_of_the_time_they_span() -> None:
    profiler = Profiler(most_samples=100)
    for number in range(1000):
        profiler.record("alpha", 1.0, NOW - (1000 - number) * 10_000)
    found = profiler.figures("alpha", NOW)
    assert found is not None
    assert found.calls == 100
    assert found.throughput_rps == pytest.approx(100, rel=0.05)


@pytest.mark.parametrize("latency_ms", [math.nan, math.inf, -1.0])
def test_what_is_no_latency_is_refused_and_counted(latency_ms: float) -> None:
    profiler = Profiler()
    assert not profiler.record("alpha", latency_ms, NOW)
    assert profiler.refused == 1


@given(st.lists(st.tuples(st.integers(0, 200), st.floats(0, 1e6), st.booleans()), max_size=80), st.integers(0, 200))
def test_errors_never_exceed_calls_and_percentiles_are_in_order(
    samples: list[tuple[int, float, bool]], at_s: int
) -> None:
    profiler = Profiler(most_samples=50)
    for when_s, latency_ms, is_error in sorted(samples):
        profiler.record("alpha", latency_ms, when_s * S, is_error=is_error)
    profiler.know("alpha")
    found = profiler.figures("alpha", at_s * S)
    assert found is not None
    assert 0 <= found.errors <= found.calls <= 50
    assert found.p50_ms <= found.p95_ms <= found.p99_ms <= found.max_ms


@pytest.mark.parametrize(("window_s", "most"), [(0, 1), (math.nan, 1), (60, 0)])
def test_a_profiler_needs_a_window_and_room(window_s: float, most: int) -> None:
    with pytest.raises(ValueError, match="needs a window"):
        Profiler(window_s, most)
