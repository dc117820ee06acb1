"""Stops everything for a while after several failures in a short time. Pure."""

from __future__ import annotations

import msgspec

_US_PER_S = 1_000_000


class Breaker(msgspec.Struct, frozen=True):
    """When things failed lately, and until when nothing is done."""

    failures_us: tuple[int, ...] = ()
    open_until_us: int = 0
    trips: int = 0

    def failed(self, now_us: int, most: int, window_s: float, pause_s: float) -> Breaker:
        """One more failure, now."""
        since_us = now_us - round(window_s * _US_PER_S)
        failures = (*(min(each, now_us) for each in self.failures_us if each > since_us), now_us)
        if len(failures) < most:
            return Breaker(failures, self.open_until_us, self.trips)
        return Breaker((), now_us + round(pause_s * _US_PER_S), self.trips + 1)

    def is_open(self, now_us: int) -> bool:
        """Whether nothing may be done."""
        return now_us < self.open_until_us

    def at(self, now_us: int, pause_s: float) -> Breaker:
        """The same after the clock was set back: a pause is never longer than it was meant to be."""
        latest_us = now_us + round(pause_s * _US_PER_S)
        if self.open_until_us <= latest_us:
            return self
        return Breaker(self.failures_us, latest_us, self.trips)
