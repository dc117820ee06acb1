"""Whether every due beat ended as it should: recomputed from the schedule's history, not taken from its word. Pure.

    due = emitted + skipped              for each entry, each due moment exactly one of the two
    emitted = run + fallback + lost      for each consumer, each at most once, nothing run that was not due

A moment is due when a timeline of the entry's history says so. Times are wall microseconds.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from kloros.orchestration.schedule_entry import Change, Skipped
from kloros.orchestration.timeline import Timeline

# A beat that gets no cycle of its own is told with the cycle then running, or with the one after it.
SURELY_PAST = 2


class Window(msgspec.Struct, frozen=True):
    """Due moments from `since_us` up to `until_us` are judged."""

    since_us: int
    until_us: int

    def has(self, due_us: int) -> bool:
        """Whether the moment is one of those judged."""
        return self.since_us <= due_us <= self.until_us


class Counterexample(msgspec.Struct, frozen=True):
    """A beat that did not end as it should."""

    kind: str
    entry: str
    due_us: int
    detail: str
    daemon: str | None = None


class Tally(msgspec.Struct):
    """What was counted of one entry, or of one consumer of it (`daemon`)."""

    entry: str
    daemon: str | None = None
    due: int = 0
    emitted: int = 0
    skipped: dict[str, int] = {}
    run: int = 0
    fallback: int = 0
    overlapped: int = 0
    lost: int = 0
    open: int = 0


class Life(msgspec.Struct, frozen=True):
    """One timeline, and how many of its due moments came to be; None: it still holds."""

    timeline: Timeline
    settled: int | None
    ended_us: int | None


class Dues:
    """When an entry was due, by the history of its changes."""

    def __init__(self, changes: Iterable[Change]) -> None:
        self.lives: list[Life] = []
        current: Timeline | None = None
        for change in changes:
            if change.kind not in ("planned", "removed"):
                continue
            if current is not None:
                self.lives.append(Life(current, change.settled, change.at_us))
            current = change.timeline if change.kind == "planned" else None
        if current is not None:
            self.lives.append(Life(current, None, None))

    def within(self, window: Window) -> list[int]:
        """The due moments of the window, earliest first."""
        found: list[int] = []
        for life in self.lives:
            last = life.timeline.rank(window.until_us)
            last = last if life.settled is None else min(last, life.settled)
            found += [life.timeline.at(index) for index in range(life.timeline.rank(window.since_us - 1), last)]
        return sorted(found)

    def has(self, due_us: int) -> bool:
        """Whether the entry was, or is going to be, due then."""
        for life in self.lives:
            index = life.timeline.rank(due_us) - 1
            is_within = index >= 0 and (life.settled is None or index < life.settled)
            if is_within and life.timeline.at(index) == due_us:
                return True
        return False

    def interval_us(self, at_us: int) -> int:
        """The interval that was planned then."""
        ended = [life for life in self.lives if life.ended_us is None or life.ended_us > at_us]
        return (ended or self.lives)[0].timeline.interval_us if self.lives else 1

    def unsettled(self) -> Iterator[int]:
        """Due moments that had come when their timeline ended, and that were passed over."""
        for life in self.lives:
            if life.settled is not None and life.ended_us is not None:
                for index in range(life.settled, life.timeline.rank(life.ended_us)):
                    yield life.timeline.at(index)


def judge_schedule(
    entry: str, dues: Dues, emitted: Collection[int], skips: Sequence[Skipped], window: Window,
    waiting: Collection[int] = (),
) -> tuple[Tally, list[Counterexample]]:  # fmt: skip
    """due = emitted + skipped, each due moment of the window exactly once; those that still wait are open."""
    tally, wrong = Tally(entry), []
    due = dues.within(window)
    tally.due = len(due)
    emitted_set = set(emitted)
    tally.emitted = sum(window.has(each) for each in emitted_set)
    covered: dict[int, str] = {}
    for skip in skips:
        inside = due[bisect_left(due, skip.first_us) : bisect_right(due, skip.last_us)]
        if window.has(skip.first_us) and window.has(skip.last_us) and len(inside) != skip.count:
            detail = f"{skip.count} were said to be skipped up to {skip.last_us}, {len(inside)} were due"
            wrong.append(Counterexample("miscounted", entry, skip.first_us, detail))
        covered |= dict.fromkeys(inside, skip.reason)
    for due_us in due:
        reason = covered.get(due_us)
        if reason is not None:
            tally.skipped[reason] = tally.skipped.get(reason, 0) + 1
        if due_us in waiting and due_us not in emitted_set and reason is None:
            tally.open += 1
        elif (due_us in emitted_set) == (reason is not None):
            is_both = reason is not None
            detail = f"it was emitted, and said to be skipped ({reason})" if is_both else "neither emitted nor skipped"
            wrong.append(Counterexample("settled twice" if is_both else "vanished", entry, due_us, detail))
    undue = [each for each in sorted(emitted_set) if window.has(each) and not dues.has(each)]
    wrong += [Counterexample("not due", entry, each, "it was emitted without being due") for each in undue]
    passed = [each for each in dues.unsettled() if window.has(each)]
    wrong += [Counterexample("passed over", entry, each, "it had come when it was planned anew") for each in passed]
    return tally, wrong


class Run(msgspec.Struct, frozen=True):
    """A cycle report, as far as it proves anything. `due_us` None: it was no numbered beat."""

    due_us: int | None
    source: str
    missed: int = 0
    overlapped_us: tuple[int, ...] = ()


def judge_consumer(
    entry: str, daemon: str, dues: Dues, emitted: Mapping[int, int], runs: Sequence[Run], window: Window,
    open_after_us: int,
) -> tuple[Tally, list[Counterexample]]:  # fmt: skip
    """emitted = run + fallback + lost, nothing twice, nothing that was not due.

    emitted: when each due moment's beat was emitted.
    runs: the daemon's reports; from before the window too, so that what it knew when the window began is known.
    open_after_us: a beat due later than this may still be on its way, unless the daemon has reported SURELY_PAST later
        ones since.
    """
    tally, wrong = Tally(entry, daemon), list(_not_due(entry, daemon, dues, sorted(emitted.values()), runs, window))
    numbered = sorted((run for run in runs if run.due_us is not None), key=lambda run: run.due_us or 0)
    overlapped = {due_us for run in runs for due_us in run.overlapped_us}
    ran: dict[int, str] = {}
    for run in numbered:
        due_us = run.due_us or 0
        if due_us in ran and window.has(due_us):
            wrong.append(Counterexample("run twice", entry, due_us, f"by {ran[due_us]} and by {run.source}", daemon))
        ran[due_us] = run.source
    past_us = sorted(ran)[-SURELY_PAST] if len(ran) >= SURELY_PAST else 0
    accountable = [each for each in sorted(emitted) if window.has(each) and numbered and _is_known(each, numbered)]
    tally.emitted = len(accountable)
    unexplained: list[int] = []
    for due_us in accountable:
        if due_us in ran:
            tally.fallback += ran[due_us] == "fallback"
            tally.run += ran[due_us] != "fallback"
        elif due_us in overlapped:
            tally.overlapped += 1
        elif due_us > max(open_after_us, past_us):
            tally.open += 1
        else:
            unexplained.append(due_us)
    tally.fallback += sum(
        source == "fallback" and window.has(due_us) and due_us not in emitted for due_us, source in ran.items()
    )
    lost, never = _lost_or_never_run(unexplained, numbered)
    tally.lost = len(lost)
    wrong += [Counterexample("never run", entry, each, "it was emitted and nobody ran it", daemon) for each in never]
    return tally, wrong


def _is_known(due_us: int, numbered: Sequence[Run]) -> bool:
    """Whether the daemon was there: it had run something before, or says that it missed this one."""
    first = numbered[0]
    return due_us >= (first.due_us or 0)


def _lost_or_never_run(unexplained: Sequence[int], numbered: Sequence[Run]) -> tuple[list[int], list[int]]:
    """Beats that the daemon's next report counts as missed, and those that nobody owns up to."""
    moments = [run.due_us or 0 for run in numbered]
    lost: list[int] = []
    never: list[int] = []
    told: dict[int, int] = {}
    for due_us in unexplained:
        following = bisect_right(moments, due_us)
        left = told.setdefault(following, numbered[following].missed if following < len(numbered) else 0)
        told[following] = left - 1
        (lost if left > 0 else never).append(due_us)
    return lost, never


def _not_due(
    entry: str, daemon: str, dues: Dues, emitted_us: Sequence[int], runs: Sequence[Run], window: Window
) -> Iterator[Counterexample]:
    for run in runs:
        due_us = run.due_us
        if due_us is None or not window.has(due_us) or dues.has(due_us):
            continue
        # On its own clock a consumer knows the grid, not what was planned anew while it could not hear the scheduler.
        heard = bisect_right(emitted_us, due_us)
        is_alone = heard == 0 or due_us - emitted_us[heard - 1] >= dues.interval_us(due_us)
        if run.source != "fallback" or not is_alone:
            yield Counterexample("not due", entry, due_us, f"it was run ({run.source}) without being due", daemon)
