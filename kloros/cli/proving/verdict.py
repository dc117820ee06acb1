"""The proof of a window: every entry, every consumer, and what does not add up."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from kloros.cli.proving.evidence import SETTLING_US, BeatRecords, EntryRecord, Reports
from kloros.orchestration.proof import Counterexample, Tally, Window, judge_consumer, judge_schedule

OPEN_INTERVALS = 2
OPEN_AT_LEAST_US = 60_000_000


class Proof(msgspec.Struct):
    """What was proven, or why not. `unheard`: entries that nobody ever reported on."""

    since_us: int
    until_us: int
    schedule: list[Tally] = []
    consumers: list[Tally] = []
    counterexamples: list[Counterexample] = []
    unheard: list[str] = []
    notes: list[str] = []

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.counterexamples

    @property
    def digest(self) -> str:
        """SHA-256 of what was counted: two proofs of the same record have the same."""
        counted = msgspec.json.encode([self.since_us, self.until_us, self.schedule, self.consumers], order="sorted")
        return hashlib.sha256(counted).hexdigest()


def prove(records: BeatRecords, reports: Reports, window: Window, wanted: tuple[str, ...] = ()) -> Proof:
    """Judge every entry (or those wanted) over the window."""
    settled_us = min(window.until_us - SETTLING_US, records.alive_us())
    window = Window(window.since_us, max(window.since_us, settled_us))
    proof = Proof(window.since_us, window.until_us)
    emissions = records.emissions(window)
    for entry in wanted or records.entries:
        emitted = dict(zip(*emissions.get(entry, ((), ())), strict=True))
        _judge_entry(proof, records.of(entry, window, with_rows=False), emitted, reports, window)
    unwritten = [change.why for change in records.scheduler if change.kind == "unwritten"]
    proof.notes += [f"not proven: {why}" for why in unwritten]
    if reports.missing:
        proof.notes.append(f"{reports.missing} messages are missing from the history, see kloros bus history")
    return proof


def _judge_entry(
    proof: Proof, record: EntryRecord, emitted: Mapping[int, int], reports: Reports, window: Window
) -> None:
    entry = record.entry
    tally, wrong = judge_schedule(entry, record.dues, list(emitted), record.skips, window, record.waiting)
    if not tally.due and not tally.emitted:
        return
    proof.schedule.append(tally)
    proof.counterexamples += wrong
    open_after_us = window.until_us - max(OPEN_INTERVALS * record.interval_us, OPEN_AT_LEAST_US)
    heard = False
    for (name, daemon), runs in sorted(reports.runs.items()):
        if name == entry:
            heard = True
            consumer, wrong = judge_consumer(entry, daemon, record.dues, emitted, runs, window, open_after_us)
            proof.consumers.append(consumer)
            proof.counterexamples += wrong
    if not heard:
        proof.unheard.append(entry)
