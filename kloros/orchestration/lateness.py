"""How late beats are: percentiles over the latest ones. Pure."""

from __future__ import annotations

from collections import deque

WINDOW_BEATS = 1000


class Lateness:
    """A sliding window over the lateness of beats, in milliseconds."""

    def __init__(self, window: int = WINDOW_BEATS) -> None:
        self._late_ms: deque[float] = deque(maxlen=window)

    def add(self, late_ms: float) -> None:
        """One beat was so late."""
        self._late_ms.append(late_ms)

    def percentiles(self) -> tuple[float, float] | tuple[None, None]:
        """p50 and p99 (nearest rank); None when there was no beat yet."""
        ranked = sorted(self._late_ms)
        if not ranked:
            return None, None
        return ranked[(len(ranked) - 1) // 2], ranked[-(-99 * len(ranked) // 100) - 1]
