"""A consumer that does next to nothing every five seconds."""

from __future__ import annotations

from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle


class Counting(Consumer):
    """Each cycle processes one thing."""

    schedule = "counting"
    signal = "Q_TRIGGER_COUNTING"
    interval_s = 5.0

    def cycle(self, cycle: Cycle) -> None:
        cycle.processed = 1
