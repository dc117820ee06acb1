"""How modules did, from what is kept of their cycles."""

from __future__ import annotations

from collections.abc import Sequence

from kloros.optimisation import store
from kloros.optimisation.changes import Change
from kloros.optimisation.fitting import LASTS_WINDOWS
from kloros.optimisation.model import ActionKind, Figures
from kloros.optimisation.profiler import nearest_rank
from kloros.optimisation.settings import OptimiserSettings
from kloros.storage.reads import Reads
from kloros.units import seconds_to_us, us_to_seconds

_MS = 1000.0


class Samples:
    """Reads with one pen."""

    def __init__(self, source: Reads, settings: OptimiserSettings) -> None:
        self._source, self._settings = source, settings

    def before(self, module: str, now_us: int) -> Figures | None:
        """How it does now, whatever was changed when: over the time that what is acted on has lasted."""
        window_s = self._settings.profile.window_s * LASTS_WINDOWS
        return self._newest(module, now_us - seconds_to_us(self._settings.profile.keep_s), now_us, window_s)

    def since(self, change: Change, module: str, now_us: int) -> Figures | None:
        """How it does now that a change has settled."""
        settle_us = seconds_to_us(self._settings.verification.settle_s)
        return self._newest(module, (change.made_us or change.written_us) + settle_us, now_us,
                            self._settings.profile.window_s)  # fmt: skip

    def _newest(self, module: str, since_us: int, now_us: int, window_s: float) -> Figures | None:
        """The figures of the last `window_s`; where it holds too few cycles, of the last `min_samples`."""
        profile, least = self._settings.profile, self._settings.verification.min_samples
        edge_us = max(since_us, now_us - seconds_to_us(window_s))
        rows = store.samples(self._source, module, edge_us, now_us, profile.samples)
        if len(rows) < least:
            rows = store.samples(self._source, module, since_us, now_us, least)
        return figures_of(module, rows, spanned_s(rows, window_s))

    def good_and_bad(self, module: str, since_us: int, now_us: int) -> tuple[int, int]:
        """How many cycles ended well, and how many did not."""
        rows = store.samples(self._source, module, since_us, now_us, self._settings.profile.samples)
        bad = sum(outcome in ("failed", "hung") for _at, _duration, _is_error, outcome in rows)
        return len(rows) - bad, bad


def figures_of(module: str, rows: Sequence[tuple[int, float, bool, str]], window_s: float) -> Figures | None:
    """Of these cycles; None of none."""
    if not rows:
        return None
    took_ms = sorted(duration_s * _MS for _at, duration_s, _is_error, _outcome in rows)
    return Figures(
        module_name=module, calls=len(rows), errors=sum(is_error for _at, _duration, is_error, _outcome in rows),
        p50_ms=nearest_rank(took_ms, 50), p95_ms=nearest_rank(took_ms, 95), p99_ms=nearest_rank(took_ms, 99),
        max_ms=took_ms[-1], throughput_rps=len(rows) / window_s, window_s=window_s, last_seen_us=rows[-1][0],
    )  # fmt: skip


def baseline_of(figures: Figures | None, kind: ActionKind) -> Figures | None:
    """What a change is compared with: who is slowed down on purpose is not blamed for doing less."""
    if figures is None or kind is not ActionKind.REDUCE_LOAD:
        return figures
    return Figures(
        module_name=figures.module_name, calls=figures.calls, errors=figures.errors, p50_ms=figures.p50_ms,
        p95_ms=figures.p95_ms, p99_ms=figures.p99_ms, max_ms=figures.max_ms, throughput_rps=0.0,
        window_s=figures.window_s, last_seen_us=figures.last_seen_us,
    )  # fmt: skip


def told(figures: Figures | None) -> dict[str, float]:
    """Figures as the bus is told of them."""
    if figures is None:
        return {}
    return {
        "calls": float(figures.calls), "error_rate": round(figures.error_rate, 6), "p50_ms": round(figures.p50_ms, 3),
        "p95_ms": round(figures.p95_ms, 3), "p99_ms": round(figures.p99_ms, 3),
        "throughput_rps": round(figures.throughput_rps, 6),
    }  # fmt: skip


def spanned_s(rows: Sequence[tuple[int, float, bool, str]], otherwise_s: float) -> float:
    """From the first to the last, as if there were one gap more: the same pace gives the same throughput."""
    if len(rows) < 2 or rows[-1][0] <= rows[0][0]:
        return otherwise_s
    return us_to_seconds(rows[-1][0] - rows[0][0]) * len(rows) / (len(rows) - 1)
