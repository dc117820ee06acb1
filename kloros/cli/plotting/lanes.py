"""What happened to each entry, as marks on a line of time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from kloros.chembus.facts import CycleReportFacts
from kloros.orchestration.schedule_entry import Beat, Skipped


class Span(msgspec.Struct, frozen=True):
    """A cycle: from when to when, on whose account, and whether all was well."""

    from_us: int
    to_us: int
    source: str
    is_ok: bool = True


class Lane(msgspec.Struct):
    """One entry: the moments it was due, those that were emitted, what was skipped, and what ran."""

    entry: str
    due: Sequence[int] = ()
    emitted: Sequence[int] = ()
    skipped: Sequence[int] = ()
    runs: list[Span] = []
    daemon: str = ""


class Picture(msgspec.Struct):
    """All lanes between two moments, and how many beats fell into each second at the most."""

    from_us: int
    to_us: int
    lanes: list[Lane]
    title: str = ""

    @property
    def peak(self) -> int:
        """The most beats that were emitted within any second."""
        seconds: dict[int, int] = {}
        for lane in self.lanes:
            for at_us in lane.emitted:
                second = at_us // 1_000_000
                seconds[second] = seconds.get(second, 0) + 1
        return max(seconds.values(), default=0)


def simulated(beats: Iterable[Beat], from_us: int, to_us: int, title: str) -> Picture:
    """A picture of beats that were played in virtual time."""
    lanes: dict[str, tuple[list[int], list[int]]] = {}
    for beat in beats:
        if beat.due_us is not None:
            due, emitted = lanes.setdefault(beat.entry.name, ([], []))
            due.append(beat.due_us)
            emitted.append(beat.due_us + beat.late_us)
    found = [Lane(entry, due, emitted) for entry, (due, emitted) in lanes.items()]
    return Picture(from_us, to_us, found, title)


def skipped_dues(due: Sequence[int], skips: Iterable[Skipped]) -> list[int]:
    """Those of the due moments that were given up."""
    ranges = [(skip.first_us, skip.last_us) for skip in skips]
    return [each for each in due if any(first <= each <= last for first, last in ranges)]


def runs_of(reports: Mapping[tuple[str, str], Iterable[CycleReportFacts]], entry: str) -> tuple[str, list[Span]]:
    """Who ran an entry's beats, and when."""
    daemons, spans = [], []
    for (name, daemon), facts in reports.items():
        if name == entry:
            daemons.append(daemon)
            spans += [_span(each) for each in facts]
    return ", ".join(sorted(daemons)), spans


def _span(facts: CycleReportFacts) -> Span:
    from_us = round(facts.started_ts * 1e6)
    return Span(from_us, from_us + round(facts.duration_s * 1e6), facts.source, facts.outcome == "ok")
