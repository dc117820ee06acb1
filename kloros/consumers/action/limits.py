"""How often something may be done: so many times in any stretch of time, and not soon after a failure. Pure."""

from __future__ import annotations

from collections.abc import Iterable

_US_PER_S = 1_000_000


def free_at_us(times_us: Iterable[int], most: int, window_s: float, now_us: int) -> int:
    """From when on one more may be done, so that no stretch of `window_s` ever holds more than `most`.

    times_us: when the earlier ones were done; one later than now (the clock was set back) counts as done now.
    """
    window_us = round(window_s * _US_PER_S)
    recent = sorted(min(time_us, now_us) for time_us in times_us if time_us > now_us - window_us)
    if len(recent) < most:
        return now_us
    return recent[-most] + window_us


def backoff_until_us(failures: int, backoff_s: float, at_most_s: float, now_us: int) -> int:
    """Until when a target is left alone after so many failures in a row, the last of which is now."""
    if failures <= 0:
        return now_us
    seconds = min(backoff_s * 2.0 ** min(failures - 1, 60), max(at_most_s, backoff_s))
    return now_us + round(seconds * _US_PER_S)
