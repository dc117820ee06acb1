"""How modules do: samples of the last window, and the figures they come to. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kloros.optimisation.model import Figures
from kloros.units import US_PER_S

WINDOW_S = 60.0
MOST_SAMPLES = 10_000
MOST_MODULES = 10_000


class Sample(NamedTuple):
    """One call (one cycle) of a module."""

    at_us: int
    latency_ms: float
    is_error: bool


def nearest_rank(ranked: Sequence[float], percent: float) -> float:
    """The smallest of the sorted values that at least `percent` of them do not exceed; 0 of none."""
    if not ranked:
        return 0.0
    return ranked[max(1, math.ceil(percent / 100 * len(ranked))) - 1]


class Profiler:
    """Keeps at most `most_samples` of each module, none older than the window. A module once known stays visible."""

    def __init__(self, window_s: float = WINDOW_S, most_samples: int = MOST_SAMPLES) -> None:
        if not (math.isfinite(window_s) and window_s > 0) or most_samples < 1:
            raise ValueError("a profiler needs a window of more than nothing, and room for a sample")
        self._window_s, self._window_us, self._most = window_s, round(window_s * US_PER_S), most_samples
        self._samples: dict[str, deque[Sample]] = {}
        self._last_seen_us: dict[str, int | None] = {}
        self.refused = 0

    def know(self, module: str) -> None:
        """A module that should be heard of: silent until it is."""
        if len(self._samples) < MOST_MODULES or module in self._samples:
            self._samples.setdefault(module, deque(maxlen=self._most))
            self._last_seen_us.setdefault(module, None)

    def record(self, module: str, latency_ms: float, at_us: int, *, is_error: bool = False) -> bool:
        """Take a sample; one that is no figure, or of a module too many, is refused and counted."""
        self.know(module)
        if module not in self._samples or not (math.isfinite(latency_ms) and latency_ms >= 0):
            self.refused += 1
            return False
        self._samples[module].append(Sample(at_us, latency_ms, is_error))
        last_us = self._last_seen_us[module]
        self._last_seen_us[module] = at_us if last_us is None else max(last_us, at_us)
        return True

    def fill(self, module: str, samples: Iterable[Sample]) -> None:
        """Take what was judged fit before, in the order in which it came."""
        self.know(module)
        if module in self._samples:
            kept = self._samples[module]
            kept.extend(samples)
            self._last_seen_us[module] = kept[-1].at_us if kept else self._last_seen_us[module]

    def forget(self, module: str) -> None:
        """A module that is gone for good."""
        self._samples.pop(module, None)
        self._last_seen_us.pop(module, None)

    @property
    def modules(self) -> tuple[str, ...]:
        """All that are known, silent ones too."""
        return tuple(self._samples)

    def figures(self, module: str, now_us: int, since_us: int | None = None) -> Figures | None:
        """Of the last window, and nothing from before `since_us`; None for a module that is not known.

        Calls, errors and latencies are of the very same samples; throughput is over the time they could come in.
        """
        kept = self._samples.get(module)
        if kept is None:
            return None
        edge_us = now_us - self._window_us
        while kept and kept[0].at_us <= edge_us:
            kept.popleft()
        from_us = edge_us if since_us is None else max(edge_us, since_us - 1)
        within = [each for each in kept if from_us < each.at_us <= now_us]
        if len(kept) == kept.maxlen and within:  # full: earlier ones of the window had to make room
            from_us = max(from_us, within[0].at_us - 1)
        ranked = sorted(each.latency_ms for each in within)
        span_s = max(now_us - from_us, 1) / US_PER_S
        return Figures(
            module_name=module, calls=len(within), errors=sum(each.is_error for each in within),
            p50_ms=nearest_rank(ranked, 50), p95_ms=nearest_rank(ranked, 95), p99_ms=nearest_rank(ranked, 99),
            max_ms=ranked[-1] if ranked else 0.0, throughput_rps=len(within) / span_s, window_s=span_s,
            last_seen_us=self._last_seen_us[module],
        )  # fmt: skip

    def report(self, now_us: int) -> tuple[Figures, ...]:
        """The figures of every known module."""
        found = (self.figures(module, now_us) for module in self._samples)
        return tuple(each for each in found if each is not None)
