"""How often something may be done: so many times in any stretch of time, not soon after a failure, and not at all for a
while after several. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kloros.units import US_PER_S


def kept_since(times_us: Iterable[int], now_us: int, window_s: float) -> list[int]:
    """Those of the last `window_s`. One later than now (the clock was set back) counts as done now."""
    since_us = now_us - round(window_s * US_PER_S)
    return [min(each, now_us) for each in times_us if each > since_us]


def free_at_us(times_us: Iterable[int], most: int, window_s: float, now_us: int) -> int:
    """From when on one more may be done, so that no stretch of `window_s` ever holds more than `most`.

    times_us: when the earlier ones were done.
    """
    recent = sorted(kept_since(times_us, now_us, window_s))
    if len(recent) < most:
        return now_us
    return recent[-most] + round(window_s * US_PER_S)


def backoff_until_us(failures: int, backoff_s: float, at_most_s: float, now_us: int) -> int:
    """Until when a target is left alone after so many failures in a row, the last of which is now."""
    if failures <= 0:
        return now_us
    seconds = min(backoff_s * 2.0 ** min(failures - 1, 60), max(at_most_s, backoff_s))
    return now_us + round(seconds * US_PER_S)


class Breaker(msgspec.Struct, frozen=True):
    """When things failed lately, and until when nothing is done."""

    failures_us: tuple[int, ...] = ()
    open_until_us: int = 0
    trips: int = 0

    def failed(self, now_us: int, most: int, window_s: float, pause_s: float) -> Breaker:
        """One more failure, now."""
        failures = (*kept_since(self.failures_us, now_us, window_s), now_us)
        if len(failures) < most:
            return Breaker(failures, self.open_until_us, self.trips)
        return Breaker((), now_us + round(pause_s * US_PER_S), self.trips + 1)

    def is_open(self, now_us: int) -> bool:
        """Whether nothing may be done."""
        return now_us < self.open_until_us

    def at(self, now_us: int, pause_s: float) -> Breaker:
        """The same after the clock was set back: a pause is never longer than it was meant to be."""
        latest_us = now_us + round(pause_s * US_PER_S)
        return self if self.open_until_us <= latest_us else Breaker(self.failures_us, latest_us, self.trips)
