"""How far a candidate drifts from the incumbent on the same input, and what follows from it. Pure.

A candidate that is better must differ. So a critical key is a decision, and counts as mismatched by how much worse the
candidate decided it than the incumbent, as reality said later; where reality said nothing, by being different.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from random import Random
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from kloros.consumers.candidates.play import losses, p_value
from kloros.consumers.candidates.subject import Example, Outputs, Subject

Verdict: TypeAlias = Literal["promote", "rolled_back", "expired", "refused"]

_BUCKETS = 1024
_RECENT = 20


class Limits(NamedTuple):
    """When a candidate's trial ends, and how."""

    worst_drift: float = 0.20
    mean_drift: float = 0.0001
    error_rate: float = 0.05
    watch_s: float = 86_400.0
    give_up_s: float = 604_800.0
    least_keys: int = 40
    p_value: float = 0.05


class Run(NamedTuple):
    """The candidate beside the incumbent on some new input. `gains`: by group, how much better it decided."""

    keys: int
    missing: int
    drift: float
    worse: float
    better: float
    gains: dict[int, float]


class Progress(msgspec.Struct, kw_only=True):
    """A trial so far: `cursor` is the last input that was tried, `observed_s` how long the candidate was watched,
    `looks` how often its promotion was considered."""

    cursor: int = 0
    observed_s: float = 0.0
    looks: int = 0
    runs: int = 0
    errors: int = 0
    keys: int = 0
    worse: float = 0.0
    better: float = 0.0
    worst_drift: float = 0.0
    recent: list[float] = []
    gains: dict[int, float] = {}
    last_error: str | None = None

    @property
    def mean_drift(self) -> float:
        """What it decided worse, less what it decided better, as a share of all keys; not below 0."""
        return max(0.0, self.worse - self.better) / self.keys if self.keys else 0.0

    @property
    def error_rate(self) -> float:
        """The share of runs in which the candidate raised."""
        return self.errors / self.runs if self.runs else 0.0


def drift(missing: int, worse: Sequence[float]) -> float:
    """Of one run: 0 when nothing is worse, 1 when a critical key is missing, else what is worse per key."""
    if missing:
        return 1.0
    return math.fsum(worse) / len(worse) if worse else 0.0


def run_beside(subject: Subject, examples: Sequence[Example], incumbent: Outputs, candidate: Outputs) -> Run:
    """Compare what both decided on the same input. A key that the incumbent lacks too is nobody's."""
    known = [each for each in examples if each.key in incumbent]
    missing = sum(each.key not in candidate for each in known)
    labelled = [each for each in known if each.is_labelled]
    before, after = losses(subject, labelled, incumbent), losses(subject, labelled, candidate)
    gained = dict(
        zip((each.key for each in labelled), (a - b for a, b in zip(before, after, strict=True)), strict=True)
    )
    for each in known:
        if not each.is_labelled:
            gained[each.key] = 0.0 if candidate.get(each.key) == incumbent[each.key] else -1.0
    gains: dict[int, float] = {}
    for each in known:
        if gained[each.key]:
            gains[bucket(each.group)] = gains.get(bucket(each.group), 0.0) + gained[each.key]
    worse = [max(0.0, -gain) for gain in gained.values()]
    better = math.fsum(max(0.0, gain) for gain in gained.values())
    return Run(len(known), missing, drift(missing, worse), math.fsum(worse), better, gains)


def bucket(group: str) -> int:
    """Groups are kept in so many buckets, so that a long trial does not grow. Those in one count as one."""
    return zlib.crc32(group.encode()) % _BUCKETS


def add(progress: Progress, run: Run, keys_per_run: int = 1) -> None:
    """One more run. One with fewer keys than it should have does not end a trial: of three, one is a third."""
    progress.runs += 1
    progress.keys += run.keys
    progress.worse += run.worse
    progress.better += run.better
    if run.keys >= keys_per_run or run.missing:
        progress.worst_drift = max(progress.worst_drift, run.drift)
    progress.recent = [*progress.recent, round(run.drift, 6)][-_RECENT:]
    for group, gain in run.gains.items():
        progress.gains[group] = progress.gains.get(group, 0.0) + gain


def add_error(progress: Progress, error: str) -> None:
    """One more run, in which the candidate raised."""
    progress.runs += 1
    progress.errors += 1
    progress.last_error = error[:300]


def is_look_due(progress: Progress, limits: Limits) -> bool:
    """Whether promotion is to be considered now: after each full watch, so that chance does not get a try each beat."""
    return progress.observed_s >= (progress.looks + 1) * limits.watch_s


def judge(progress: Progress, limits: Limits, chance: Random) -> tuple[Verdict, str] | None:
    """The verdict and why, or None while the trial goes on. Counts the look, if one is due."""
    if progress.worst_drift >= limits.worst_drift:
        return "rolled_back", f"a drift of {progress.worst_drift:.1%} in one run"
    if not is_look_due(progress, limits):
        return None
    progress.looks += 1
    if progress.error_rate >= limits.error_rate:
        return "rolled_back", f"{progress.errors} of {progress.runs} runs failed: {progress.last_error}"
    if progress.keys >= limits.least_keys:
        if progress.mean_drift > limits.mean_drift:
            return "rolled_back", f"a mean drift of {progress.mean_drift:.2%} over {progress.keys} decisions"
        chance_of_it = p_value({str(group): gain for group, gain in progress.gains.items()}, chance)
        if chance_of_it <= limits.p_value:
            return "promote", f"it decided {progress.better:g} better and {progress.worse:g} worse of {progress.keys}"
    if progress.observed_s >= limits.give_up_s:
        return "expired", _why_expired(progress, limits)
    return None


def _why_expired(progress: Progress, limits: Limits) -> str:
    if progress.keys < limits.least_keys:
        return f"only {progress.keys} decisions in all that time; {limits.least_keys} are needed"
    return f"{progress.better:g} better, {progress.worse:g} worse of {progress.keys}: it could be chance"
