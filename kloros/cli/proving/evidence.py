"""What is on record about the beats: the scheduler's ledger, and the consumers' cycle reports in the history."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches

import msgspec
import typer

from kloros.chembus.facts import CycleReportFacts
from kloros.cli.stored import stored_by
from kloros.errors import StoreUnusable
from kloros.orchestration.beat_ledger import THE_SCHEDULER, BeatReader, BeatRow, Emissions
from kloros.orchestration.proof import Dues, Run, Window
from kloros.orchestration.schedule_entry import Change, Skipped, Unsettled
from kloros.place import Place
from kloros.storage.history_rows import Gap, Record, Wanted
from kloros.units import seconds_to_us

REPORT = "Q_CYCLE_REPORT"
# A report is in the history a little after its cycle ended; a beat in the ledger a little after it was emitted.
SETTLING_US = 5_000_000
# How far before the window a consumer's reports are read, so that what it knew by then is known.
BEFORE_INTERVALS = 3


class _Body(msgspec.Struct):
    facts: CycleReportFacts
    ts: float = 0.0


_decode = msgspec.json.Decoder(_Body).decode


@dataclass
class Reports:
    """The cycle reports of the window and a little before, by (entry, daemon)."""

    runs: dict[tuple[str, str], list[Run]] = field(default_factory=dict)
    facts: dict[tuple[str, str], list[CycleReportFacts]] = field(default_factory=dict)
    missing: int = 0
    newest_us: int = 0


@dataclass
class EntryRecord:
    """What the ledger says of one entry."""

    entry: str
    changes: list[Change]
    dues: Dues
    emitted: list[BeatRow]
    skips: list[Skipped]
    unsettled: Unsettled

    @property
    def interval_us(self) -> int:
        """The longest interval it ever ran at, as far as is known."""
        intervals = [change.timeline.interval_us for change in self.changes if change.timeline is not None]
        return max(intervals, default=1)


class BeatRecords:
    """The ledger of beats, opened."""

    def __init__(self, reader: BeatReader) -> None:
        self._reader = reader
        self.entries = reader.entries()
        self.scheduler = reader.changes(THE_SCHEDULER)

    def require(self, entry: str) -> None:
        """Raises typer.BadParameter when nothing is on record about it."""
        if entry not in self.entries:
            close = get_close_matches(entry, self.entries, n=1)
            hint = f" (did you mean {close[0]}?)" if close else f"; known are {', '.join(self.entries)}"
            raise typer.BadParameter(f"there is no beat of {entry!r} on record{hint}")

    def oldest_us(self) -> int | None:
        """The earliest due moment that is on record."""
        return self._reader.oldest_us()

    def alive_us(self) -> int:
        """The scheduler's last sign of life: what was due later awaits its next life."""
        latest = self._reader.latest_us()
        return max([latest or 0, *(change.at_us for change in self.scheduler)])

    def emissions(self, window: Window) -> dict[str, Emissions]:
        """When what was due in the window was emitted, of every entry."""
        return self._reader.emissions(window.since_us, window.until_us)

    def of(self, entry: str, window: Window, *, with_rows: bool = True) -> EntryRecord:
        """What is on record about one entry; its emitted beats only `with_rows`."""
        changes = self._reader.changes(entry)
        emitted = self._reader.emitted(entry, window.since_us, window.until_us) if with_rows else []
        skips = self._reader.skips(entry, window.since_us, window.until_us)
        return EntryRecord(entry, changes, Dues(changes), emitted, skips, self._reader.unsettled(entry))


@contextmanager
def beat_records(place: Place) -> Iterator[BeatRecords]:
    """The ledger of the suite's scheduler. Raises StoreUnusable."""
    with stored_by("scheduler", place) as taken:
        if not taken.query("SELECT 1 FROM sqlite_master WHERE name = 'plans'"):
            path = place.state / "scheduler" / "state.db"
            raise StoreUnusable(path=path, reason="there is no ledger of beats in it; start this version's scheduler")
        yield BeatRecords(BeatReader(taken))


def cycle_reports(place: Place, since_us: int, until_us: int) -> Reports:
    """The reports that the historian recorded. Raises StoreUnusable."""
    from kloros.cli.history import open_history

    reports = Reports()
    with open_history(place) as history:
        for item in history.read(Wanted(signals=(REPORT,), since_us=since_us, until_us=until_us)):
            if isinstance(item, Gap):
                reports.missing += item.missing
            else:
                _add(reports, item)
    return reports


def _add(reports: Reports, record: Record) -> None:
    try:
        facts = _decode(record.body).facts
    except msgspec.DecodeError:
        reports.missing += 1
        return
    key = (facts.schedule, facts.daemon)
    reports.newest_us = max(reports.newest_us, record.ts_us)
    reports.facts.setdefault(key, []).append(facts)
    run = Run(
        due_us=None if facts.due_ts is None else seconds_to_us(facts.due_ts),
        source=facts.source,
        missed=facts.missed,
        overlapped_us=tuple(seconds_to_us(ts) for ts in facts.overlapped_ts),
    )
    reports.runs.setdefault(key, []).append(run)
