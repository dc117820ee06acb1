"""So many times in any stretch of time, and a pause after several failures. Pure."""

from __future__ import annotations

import msgspec

_US_PER_S = 1_000_000


def kept_since(times_us: list[int], now_us: int, window_s: float) -> list[int]:
    """Those of the last `window_s`. One later than now (the clock was set back) counts as done now."""
    since_us = now_us - round(window_s * _US_PER_S)
    return [min(each, now_us) for each in times_us if each > since_us]


class Breaker(msgspec.Struct, frozen=True):
    """When things failed lately, and until when nothing is done."""

    failures_us: tuple[int, ...] = ()
    open_until_us: int = 0
    trips: int = 0

    def failed(self, now_us: int, most: int, window_s: float, pause_s: float) -> Breaker:
        """One more failure, now."""
        failures = (*kept_since(list(self.failures_us), now_us, window_s), now_us)
        if len(failures) < most:
            return Breaker(failures, self.open_until_us, self.trips)
        return Breaker((), now_us + round(pause_s * _US_PER_S), self.trips + 1)

    def is_open(self, now_us: int) -> bool:
        """Whether nothing may be done."""
        return now_us < self.open_until_us

    def at(self, now_us: int, pause_s: float) -> Breaker:
        """The same after the clock was set back: a pause is never longer than it was meant to be."""
        latest_us = now_us + round(pause_s * _US_PER_S)
        return self if self.open_until_us <= latest_us else Breaker(self.failures_us, latest_us, self.trips)
