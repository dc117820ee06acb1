"""How long a look may take: what is shared by everybody who takes part in it."""

from __future__ import annotations

import threading

from kloros.clock import Clock


class Deadline:
    """Ends at a moment of the monotonic clock, or when it is called off."""

    def __init__(self, clock: Clock, timeout_s: float) -> None:
        self._clock = clock
        self._at_s = clock.monotonic_s() + timeout_s
        self._called_off = threading.Event()

    @property
    def remaining_s(self) -> float:
        """Seconds that are left; 0 when none are."""
        return 0.0 if self._called_off.is_set() else max(0.0, self._at_s - self._clock.monotonic_s())

    @property
    def is_over(self) -> bool:
        """Whether to stop looking."""
        return self.remaining_s <= 0

    def within(self, at_most_s: float) -> float:
        """At most so many seconds, and never more than are left; at least a hundredth, since 0 often means for ever."""
        return max(0.01, min(at_most_s, self.remaining_s))

    def wait(self, seconds: float) -> None:
        """Let time pass, less when it is called off meanwhile."""
        self._called_off.wait(min(seconds, self.remaining_s))

    def call_off(self) -> None:
        """Nobody waits for the answer any more."""
        self._called_off.set()
