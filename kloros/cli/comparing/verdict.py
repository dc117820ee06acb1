"""Whether to switch a daemon from its old timer to the scheduler's signal, by what both of them did. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import sqrt

import msgspec

from kloros.daemon.grid import Grid

US_PER_HOUR = 3_600_000_000
# A beat may begin this much of its interval late before that counts against it. Where the old timer was no better it
# may be as late as that, but never a whole interval: by then the next one is due.
LATE_SHARE = 0.1
# How far the beats may wander off the clock over the whole trial; the old timer's poll alone is a second.
MOST_DRIFT_US = 10_000
# A drift smaller than so many standard errors may be chance.
SURE_ERRORS = 5.0
# Fewer beats prove nothing.
LEAST_BEATS = 3


class Cycle(msgspec.Struct, frozen=True):
    """A cycle of the daemon, as its report tells it."""

    due_us: int | None
    started_us: int
    source: str
    outcome: str
    overlapped_us: tuple[int, ...] = ()


class Cost(msgspec.Struct, frozen=True):
    """What the daemon's process had used by then."""

    at_us: int
    cpu_s: float
    rss_bytes: int


class Trial(msgspec.Struct):
    """All that was recorded. `old_us`: when the old timer would have worked. `triggers_us`: due moments heard."""

    daemon: str
    schedule: str
    interval_us: int
    offset_us: int
    from_us: int
    to_us: int
    old_us: list[int] = []
    triggers_us: list[int] = []
    cycles: list[Cycle] = []
    costs: list[Cost] = []
    was_paced: bool = False


class Figures(msgspec.Struct):
    """One side of the comparison. Lateness from due to begun; drift over the whole trial, and its standard error.

    skipped: due while the cycle before it was still running, and told as such.
    """

    expected: int
    run: int
    skipped: int
    missed: int
    duplicates: int
    late_p50_ms: float
    late_p99_ms: float
    drift_ms: float
    drift_error_ms: float = 0.0


class Row(msgspec.Struct, frozen=True):
    """A beat that speaks against switching."""

    kind: str
    due_us: int
    detail: str


class Verdict(msgspec.Struct):
    """GO, NO-GO, or that it is too early to tell."""

    word: str
    sentence: str
    old: Figures
    new: Figures
    rows: list[Row] = []
    cpu_percent: float | None = None
    rss_mib: float | None = None
    hours: float = 0.0


def judge(trial: Trial) -> Verdict:
    """Compare the two."""
    expected = _expected(trial)
    new, rows = _new_figures(trial, expected)
    old = _old_figures(trial)
    hours = (trial.to_us - trial.from_us) / US_PER_HOUR
    rows += _faults(trial, new, old)
    verdict = Verdict("GO", "", old, new, rows, *_costs(trial.costs), hours=hours)
    if len(expected) < LEAST_BEATS:
        verdict.word = "TOO EARLY"
        verdict.sentence = f"{len(expected)} beats prove nothing: let it run for at least {LEAST_BEATS} intervals"
    elif rows:
        verdict.word = "NO-GO"
        kinds = Counter(row.kind for row in rows)
        told = ", ".join("it drifts" if kind == "drift" else f"{count} {kind}" for kind, count in sorted(kinds.items()))
        verdict.sentence = f"do not switch {trial.daemon} yet: {told}"
    else:
        verdict.sentence = (
            f"switch {trial.daemon}: {new.run} beats ran, each once, none was missed, 99 of 100 at most "
            f"{new.late_p99_ms:.1f} ms late (the old timer {old.late_p99_ms:.0f} ms), no drift (the old timer "
            f"{old.drift_ms:+.0f} ms)"
        )
    return verdict


def _expected(trial: Trial) -> list[int]:
    """The due moments: those of the nominal grid, or while the pace was changed those that were triggered.

    Of the last interval only those that are known to have been run: the others may still be worked on.
    """
    grid = Grid(trial.offset_us, trial.interval_us)
    due = sorted(set(trial.triggers_us)) if trial.was_paced else grid.beats_between(trial.from_us, trial.to_us)
    ran = {cycle.due_us for cycle in trial.cycles}
    return [due_us for due_us in due if due_us in ran or due_us <= trial.to_us - trial.interval_us]


def _new_figures(trial: Trial, expected: Sequence[int]) -> tuple[Figures, list[Row]]:
    inside = [cycle for cycle in trial.cycles if cycle.due_us is not None and trial.from_us < cycle.due_us]
    counts = Counter(cycle.due_us or 0 for cycle in inside)
    told = {due_us for cycle in trial.cycles for due_us in cycle.overlapped_us}
    missed = [due_us for due_us in expected if due_us not in counts and due_us not in told]
    twice = sorted(due_us for due_us, count in counts.items() if count > 1)
    late = sorted((cycle.due_us or 0, cycle.started_us - (cycle.due_us or 0)) for cycle in inside)
    drift_us, error_us = _drift_us(late)
    figures = Figures(
        expected=len(expected), run=len(counts), skipped=len(told & set(expected) - counts.keys()),
        missed=len(missed), duplicates=len(twice),
        late_p50_ms=_share([each for _, each in late], 0.5), late_p99_ms=_share([each for _, each in late], 0.99),
        drift_ms=drift_us / 1e3, drift_error_ms=error_us / 1e3,
    )  # fmt: skip
    rows = [Row("missed", due_us, "it was due, and no cycle of it was reported") for due_us in missed]
    rows += [Row("run twice", due_us, f"{counts[due_us]} cycles") for due_us in twice]
    failed = [cycle for cycle in inside if cycle.outcome not in ("ok", "over_budget")]
    rows += [Row("failed", cycle.due_us or 0, cycle.outcome) for cycle in failed]
    return figures, rows


def _old_figures(trial: Trial) -> Figures:
    """The old timer against its own intention: one interval after the other, from its first."""
    fired = trial.old_us
    late = [(at_us, at_us - (fired[0] + number * trial.interval_us)) for number, at_us in enumerate(fired)]
    expected = 1 + (trial.to_us - fired[0]) // trial.interval_us if fired else 0
    values = [each for _, each in late]
    drift_us, error_us = _drift_us(late)
    return Figures(
        expected=expected, run=len(fired), skipped=0, missed=max(0, expected - len(fired)), duplicates=0,
        late_p50_ms=_share(values, 0.5), late_p99_ms=_share(values, 0.99),
        drift_ms=drift_us / 1e3, drift_error_ms=error_us / 1e3,
    )  # fmt: skip


def _faults(trial: Trial, new: Figures, old: Figures) -> list[Row]:
    rows = []
    bound_ms = max(MOST_DRIFT_US / 1e3, trial.interval_us / 1e6, SURE_ERRORS * new.drift_error_ms)
    if abs(new.drift_ms) > bound_ms:
        text = f"{new.drift_ms:+.1f} ms over the trial, at most {bound_ms:.1f} ms are allowed"
        rows.append(Row("drift", trial.to_us, text))
    interval_ms = trial.interval_us / 1e3
    allowed_ms = min(interval_ms, max(old.late_p99_ms, LATE_SHARE * interval_ms))
    if new.late_p99_ms > allowed_ms:
        rows.append(Row("late", trial.to_us, f"{new.late_p99_ms:.1f} ms, at most {allowed_ms:.1f} ms are allowed"))
    return rows


def _drift_us(late: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """How much lateness grew from the first to the last, by the line of least squares, and its standard error."""
    count = len(late)
    if count < LEAST_BEATS:
        return 0.0, 0.0
    mean_at, mean_late = sum(at for at, _ in late) / count, sum(each for _, each in late) / count
    spread = sum((at - mean_at) ** 2 for at, _ in late)
    if not spread:
        return 0.0, 0.0
    slope = sum((at - mean_at) * (each - mean_late) for at, each in late) / spread
    left = sum((each - mean_late - slope * (at - mean_at)) ** 2 for at, each in late)
    span = late[-1][0] - late[0][0]
    return slope * span, sqrt(left / (count - 2) / spread) * span


def _share(values_us: Sequence[int], share: float) -> float:
    """The value in ms that so much of the values do not exceed (nearest rank); 0 when there are none."""
    ordered = sorted(values_us)
    return ordered[max(0, -(-int(share * 100 * len(ordered)) // 100) - 1)] / 1e3 if ordered else 0.0


def _costs(costs: Sequence[Cost]) -> tuple[float | None, float | None]:
    """CPU in percent of a core, and the most memory in MiB."""
    if len(costs) < 2 or costs[-1].at_us <= costs[0].at_us:
        return None, None
    cpu = 1e8 * (costs[-1].cpu_s - costs[0].cpu_s) / (costs[-1].at_us - costs[0].at_us)
    return round(cpu, 3), round(max(cost.rss_bytes for cost in costs) / 2**20, 1)
