"""What the bus carries and loses, by the proxy's and the subscribers' own counters. Pure."""

from __future__ import annotations

from collections import deque

from kloros.chembus.facts import HeartbeatFacts
from kloros.cli.roll_call import PROXY

# The rate is that of about so long: long enough to be steady, short enough to follow.
RATE_OVER_S = 12.0
_REFUSED = "refused_"


class BusFigures:
    """Fed with every HEARTBEAT."""

    def __init__(self) -> None:
        self._forwarded: deque[tuple[float, int]] = deque()
        self._lost: dict[str, tuple[int, int]] = {}
        self.refused = 0

    def add(self, heart: HeartbeatFacts, ts: float) -> None:
        """Take a heartbeat in. A proxy that counts anew has been started anew."""
        self._lost[heart.zooid] = heart.counters.get("gap", 0), heart.counters.get("drop", 0)
        if heart.zooid != PROXY:
            return
        self.refused = sum(count for name, count in heart.counters.items() if name.startswith(_REFUSED))
        forwarded = heart.counters.get("forwarded", 0)
        if self._forwarded and (forwarded < self._forwarded[-1][1] or ts < self._forwarded[-1][0]):
            self._forwarded.clear()
        self._forwarded.append((ts, forwarded))
        while len(self._forwarded) > 2 and self._forwarded[1][0] <= ts - RATE_OVER_S:
            self._forwarded.popleft()

    @property
    def rate_hz(self) -> float | None:
        """Messages that passed per second; None until that is known."""
        if len(self._forwarded) < 2:
            return None
        (since_ts, before), (until_ts, now) = self._forwarded[0], self._forwarded[-1]
        return (now - before) / (until_ts - since_ts) if until_ts > since_ts else None

    @property
    def gaps(self) -> int:
        """Messages that somebody missed."""
        return sum(gaps for gaps, _ in self._lost.values())

    @property
    def drops(self) -> int:
        """Messages that somebody had no room for."""
        return sum(drops for _, drops in self._lost.values())
