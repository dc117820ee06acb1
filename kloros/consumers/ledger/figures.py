"""How a zooid is doing, from its observations: an average that forgets, and the last twenty. Pure."""

from __future__ import annotations

import msgspec

ALPHA = 0.1
WINDOW = 20


class Figures(msgspec.Struct, kw_only=True):
    """The rolling figures of one zooid.

    `ok_rate` and `ttr_ms_mean` are exponentially weighted (the newest counts a tenth), beginning with the first value.
    `window` holds the last twenty observations, oldest first: whether each was ok, and its ttr_ms if it had one.
    """

    zooid: str
    known: bool = True
    observations: int = 0
    ok_rate: float | None = None
    ttr_ms_mean: float | None = None
    window: list[tuple[bool, float | None]] = []
    last_ts: float | None = None

    def take(self, ok: bool, ttr_ms: float | None, ts: float) -> None:
        """Count one more observation."""
        self.observations += 1
        self.ok_rate = _moved(self.ok_rate, float(ok))
        if ttr_ms is not None:
            self.ttr_ms_mean = _moved(self.ttr_ms_mean, ttr_ms)
        self.window = [*self.window, (ok, ttr_ms)][-WINDOW:]
        self.last_ts = ts if self.last_ts is None else max(self.last_ts, ts)

    @property
    def window_ok_rate(self) -> float | None:
        """The share of the window that was ok."""
        return _mean([float(ok) for ok, _ in self.window])

    @property
    def window_ttr_ms_mean(self) -> float | None:
        """The mean ttr_ms of the window."""
        return _mean([ttr_ms for _, ttr_ms in self.window if ttr_ms is not None])


def _moved(average: float | None, value: float) -> float:
    return value if average is None else (1 - ALPHA) * average + ALPHA * value


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
