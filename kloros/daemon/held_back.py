"""A bound on how long something may be held back in memory, so that whoever gathers needs no timer."""

from __future__ import annotations

from kloros.clock import Clock
from kloros.daemon.loop import Callback, Loop


class HeldBack:
    """Nothing is due while nothing is held back. Belongs to the loop's thread."""

    def __init__(self, loop: Loop, clock: Clock, flush: Callback) -> None:
        self._loop, self._clock, self._flush = loop, clock, flush
        self._is_due = False

    def flush_within(self, seconds: float) -> None:
        """Something is held back: it is let go so many seconds from now, with all that gathers till then."""
        if not self._is_due:
            self._is_due = True
            self._loop.at_monotonic("flush", self._clock.monotonic_s() + seconds, self._let_go)

    def _let_go(self) -> None:
        self._is_due = False
        self._flush()
