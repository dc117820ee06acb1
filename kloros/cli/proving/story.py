"""One beat's story, from the ledger of beats and the history."""

from __future__ import annotations

import msgspec

from kloros.chembus.facts import CycleReportFacts
from kloros.cli.proving.evidence import EntryRecord, Reports, beat_records, cycle_reports
from kloros.cli.units import clock_time, duration, moment
from kloros.errors import StoreUnusable
from kloros.orchestration.beat_ledger import BeatRow
from kloros.orchestration.proof import Window
from kloros.orchestration.schedule_entry import Change, Skipped
from kloros.place import Place
from kloros.units import seconds_to_us

# How far around the moment asked about the due moments are looked for.
AROUND_INTERVALS = 2
_SKIPPED = {
    "late": "the scheduler came too late for it, and one later beat stands for it",
    "paused": "the entry was paused",
    "held": "the entry was held",
    "maintenance": "maintenance was on",
    "downtime": "the scheduler was not running",
    "re-planned": "the entry's interval was changed before it could be emitted",
    "removed": "the entry was taken out of the schedule",
}
_AWAITED = {
    "": "it waits for the entry it comes after, or for its turn",
    "paused": "the entry is paused; its misfire policy decides when it is resumed",
    "held": "the entry is held; its misfire policy decides when it is released",
    "maintenance": "maintenance is on; the misfire policy decides when it ends",
}
_HAPPENED = {
    "planned": "planned",
    "paused": "paused by an operator",
    "resumed": "resumed",
    "held": "held",
    "released": "released",
    "removed": "taken out of the schedule",
    "unnumbered": "an extra beat",
    "clock_back": "the wall clock went back",
}


class BeatStory(msgspec.Struct):
    """What is to be told. `due_us` None: nothing was due around that moment."""

    entry: str
    headline: str
    lines: list[str] = []
    due_us: int | None = None
    outcome: str | None = None


def story_of(place: Place, entry: str, moment_us: int) -> BeatStory:
    """The beat of `entry` that was due last up to that moment. Raises typer.BadParameter, StoreUnusable."""
    with beat_records(place) as records:
        records.require(entry)
        widest_us = AROUND_INTERVALS * records.of(entry, Window(moment_us, moment_us)).interval_us
        window = Window(moment_us - widest_us, moment_us + widest_us)
        record = records.of(entry, window)
        alive_us, oldest_us = records.alive_us(), records.oldest_us() or 0
    due = record.dues.within(Window(window.since_us, moment_us))
    following = record.dues.within(Window(moment_us + 1, window.until_us))
    next_one = [f"the next one: {moment(following[0] / 1e6)}"] if following else []
    if not due:
        headline = f"{entry}: nothing was due up to {moment(moment_us / 1e6)}"
        if moment_us < oldest_us:
            headline = f"{entry}: nothing is on record from before {moment(oldest_us / 1e6)}"
        return BeatStory(entry, headline, _happened(record, moment_us) + next_one)
    due_us = due[-1]
    row = next((each for each in record.emitted if each.due_us == due_us), None)
    skip = next((each for each in record.skips if each.first_us <= due_us <= each.last_us), None)
    story = BeatStory(entry, f"{entry}, due {moment(due_us / 1e6)}", due_us=due_us)
    story.lines.append(_planned(record, due_us))
    if row is not None:
        story.outcome = "emitted"
        story.lines.append(_emitted(row))
    elif skip is not None:
        story.outcome = "skipped"
        story.lines.append(_skipped(skip))
    elif record.unsettled.has(due_us):
        story.outcome = "open"
        story.lines.append(f"not emitted yet: {_awaited(record)}")
    elif due_us < oldest_us:
        story.outcome = "unknown"
        story.lines.append(f"what became of it is not on record any more; the ledger of beats begins at "
                           f"{moment(oldest_us / 1e6)}")  # fmt: skip
    elif due_us > alive_us:
        story.outcome = "open"
        story.lines.append("not emitted yet: the scheduler has not been heard since; its next life decides")
    else:
        story.outcome = "unknown"
        story.lines.append("neither emitted nor skipped: kloros prove says more")
    story.lines += _runs(place, entry, due_us, record)
    story.lines += _happened(record, moment_us, _plan_of(record, due_us))
    story.lines += next_one
    return story


def _plan_of(record: EntryRecord, due_us: int) -> Change | None:
    return next((c for c in reversed(record.changes) if c.timeline is not None and c.at_us <= due_us), None)


def _planned(record: EntryRecord, due_us: int) -> str:
    plan = _plan_of(record, due_us)
    if plan is None or plan.timeline is None:
        return "how it was planned is not on record any more"
    every = duration(plan.timeline.interval_us / 1e6)
    base = "" if plan.timeline.interval_us == plan.nominal_us else f" instead of {duration(plan.nominal_us / 1e6)}"
    because = f" ({plan.why})" if plan.why else ""
    return f"planned every {every}{base} since {moment(plan.at_us / 1e6)}{because}"


def _awaited(record: EntryRecord) -> str:
    hindrance = record.unsettled.hindrance
    began = next((change for change in reversed(record.changes) if change.kind == hindrance), None)
    since = "" if began is None else f" (since {moment(began.at_us / 1e6)}{f', {began.why}' if began.why else ''})"
    return _AWAITED.get(hindrance, _AWAITED[""]) + since


def _emitted(row: BeatRow) -> str:
    late = duration((row.emitted_us - row.due_us) / 1e6)
    lost = ", and lost: the bus was not there" if row.is_lost else ""
    why = f" ({row.why})" if row.why else ""
    return f"emitted {late} later as beat {row.beat}{why}{lost}"


def _skipped(skip: Skipped) -> str:
    others = f", one of {skip.count}" if skip.count > 1 else ""
    return f"skipped{others}: {_SKIPPED.get(skip.reason, skip.reason)} (settled {moment(skip.at_us / 1e6)})"


def _runs(place: Place, entry: str, due_us: int, record: EntryRecord) -> list[str]:
    emitted_us = next((row.emitted_us for row in record.emitted if row.due_us == due_us), due_us)
    try:
        reports = cycle_reports(place, due_us - 1, due_us + AROUND_INTERVALS * record.interval_us + 600_000_000)
    except StoreUnusable as error:
        return [f"who ran it is not known: {error}"]
    lines = [line for (name, daemon), facts in reports.facts.items() if name == entry
             for line in _told(daemon, facts, due_us, emitted_us)]  # fmt: skip
    return lines or [_nobody(entry, reports)]


def _told(daemon: str, all_facts: list[CycleReportFacts], due_us: int, emitted_us: int) -> list[str]:
    """What became of it there: run, given up, or lost; nothing when the daemon does not tell."""
    ran = [_ran(daemon, facts) for facts in all_facts if _due_us(facts) == due_us]
    if ran:
        return ran
    gave_up = [facts for facts in all_facts if due_us in {seconds_to_us(ts) for ts in facts.overlapped_ts}]
    if gave_up:
        return [_gave_up(daemon, facts, emitted_us) for facts in gave_up]
    later = sorted((facts for facts in all_facts if _due_us(facts) > due_us), key=_due_us)
    if later and later[0].missed:
        back = f"ran again at {clock_time(later[0].started_ts)} and counts {later[0].missed} as missed"
        return [f"{daemon} lost it: it {back}"]
    return []


def _due_us(facts: CycleReportFacts) -> int:
    return 0 if facts.due_ts is None else seconds_to_us(facts.due_ts)


def _ran(daemon: str, facts: CycleReportFacts) -> str:
    error = f": {facts.error}" if facts.error else ""
    return (
        f"run by {daemon} at {clock_time(facts.started_ts)} ({facts.source}), {facts.outcome} after "
        f"{duration(facts.duration_s)}{error}"
    )


def _gave_up(daemon: str, facts: CycleReportFacts, emitted_us: int) -> str:
    began = clock_time(facts.started_ts)
    if seconds_to_us(facts.started_ts) <= emitted_us:
        return f"{daemon} skipped it: its cycle of {began} was still running"
    return f"{daemon} gave it up, as its cycle of {began} tells: a later beat had had its turn, or it was not working"


def _nobody(entry: str, reports: Reports) -> str:
    if not any(name == entry for name, _daemon in reports.facts):
        return "nobody reported on this entry around then"
    return "nobody reported to have run it"


def _happened(record: EntryRecord, moment_us: int, told: Change | None = None) -> list[str]:
    """What befell the entry shortly before, besides what was told already."""
    since_us = moment_us - AROUND_INTERVALS * record.interval_us
    recent = [change for change in record.changes if since_us <= change.at_us <= moment_us and change is not told]
    return [f"{moment(change.at_us / 1e6)}: {_event(change)}" for change in recent]


def _event(change: Change) -> str:
    what = _HAPPENED.get(change.kind, change.kind)
    if change.kind == "planned" and change.timeline is not None:
        what = f"planned every {duration(change.timeline.interval_us / 1e6)}"
    return f"{what}: {change.why}" if change.why else what
