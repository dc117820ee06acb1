from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros.chembus.ratelimit import TokenBucket


def test_a_burst_then_the_rate() -> None:
    bucket = TokenBucket(rate_per_s=10, burst=3, now_s=0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(0.09)
    assert bucket.take(0.11)
    assert not bucket.take(0.12)


def test_rest_fills_it_no_further_than_the_burst() -> None:
    bucket = TokenBucket(rate_per_s=1000, burst=2, now_s=0.0)
    assert [bucket.take(3600.0) for _ in range(3)] == [True, True, False]


def test_a_clock_that_goes_back_costs_nothing() -> None:
    bucket = TokenBucket(rate_per_s=1, burst=1, now_s=100.0)
    assert bucket.take(50.0)
    assert not bucket.take(100.5)
    assert bucket.take(101.0)


@pytest.mark.parametrize(("rate_per_s", "burst"), [(0, 1), (-1, 1), (1, 0)])
def test_a_bucket_that_lets_nothing_through_is_refused(rate_per_s: float, burst: int) -> None:
    with pytest.raises(ValueError, match="bucket"):
        TokenBucket(rate_per_s, burst, 0.0)


@given(
    rate_per_s=st.floats(0.1, 1000),
    burst=st.integers(1, 100),
    pauses_s=st.lists(st.floats(0, 5), min_size=1, max_size=200),
)
def test_never_more_than_burst_plus_rate_times_time(rate_per_s: float, burst: int, pauses_s: list[float]) -> None:
    bucket = TokenBucket(rate_per_s, burst, 0.0)
    now_s, taken = 0.0, 0
    for pause_s in pauses_s:
        now_s += pause_s
        taken += bucket.take(now_s)
        assert taken <= burst + rate_per_s * now_s + 1e-6
