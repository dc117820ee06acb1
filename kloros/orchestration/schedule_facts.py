"""The schedule as its signals show it. Pure; moments become epoch seconds here."""

from __future__ import annotations

from kloros.chembus.facts import TickEntry, TriggerFacts
from kloros.clock import us_to_seconds
from kloros.orchestration.beat_rules import next_expiry_us, numbered_due_us
from kloros.orchestration.schedule import EntryView
from kloros.orchestration.schedule_entry import Beat


def trigger_facts(beat: Beat, scheduler: str, epoch: int, late_us: int) -> TriggerFacts:
    """What goes with the trigger of `beat`, emitted `late_us` after it was due."""
    return TriggerFacts(
        schedule=beat.entry.name,
        beat=beat.beat,
        due_ts=None if beat.due_us is None else us_to_seconds(beat.due_us),
        interval_s=us_to_seconds(beat.interval_us),
        pace=beat.pace,
        reason=beat.reason,
        missed=beat.missed,
        late_s=us_to_seconds(late_us),
        scheduler=scheduler,
        epoch=epoch,
        why=why(beat),
    )


def why(beat: Beat) -> str | None:
    """What a person would ask about: why this beat is not simply due as configured. None when it is."""
    reasons = []
    if beat.reason == "control":
        reasons.append("triggered by hand")
    if beat.reason == "clock":
        reasons.append("the wall clock was set back and repeats time that was already worked")
    if beat.reason == "misfire":
        reasons.append(f"could not be emitted in time, {beat.missed} before it were missed")
    if beat.interval_us != beat.entry.interval_us:
        reasons.append(off_nominal(beat.entry.interval_us, beat.interval_us, beat.pace))
    return "; ".join(reasons) or None


def off_nominal(nominal_us: int, interval_us: int, pace: float) -> str:
    """An interval that is not the configured one, in words."""
    how = f"at pace {pace:g}" if pace != 1.0 else "as set"
    return f"base {us_to_seconds(nominal_us):g} s, {how}: {us_to_seconds(interval_us):g} s"


def tick_entry(view: EntryView) -> TickEntry:
    """One entry of the tick. `next_due_ts` is its next numbered beat; an entry that is paused has none."""
    entry, state = view.entry, view.state
    interval_us, until_us = state.timeline.interval_us, next_expiry_us(state)
    is_nominal = interval_us == entry.interval_us
    return TickEntry(
        signal=entry.signal,
        interval_s=us_to_seconds(interval_us),
        nominal_s=us_to_seconds(entry.interval_us),
        offset_s=us_to_seconds(entry.offset_us),
        pace=state.pace,
        next_due_ts=None if state.paused else us_to_seconds(numbered_due_us(state)),
        last_beat=state.last_beat,
        last_due_ts=None if state.last_due_us is None else us_to_seconds(state.last_due_us),
        paused=state.paused,
        missed=state.missed,
        misfires=state.misfires,
        emitted=state.emitted,
        priority=entry.priority,
        override_until_ts=None if until_us is None else us_to_seconds(until_us),
        why=None if is_nominal else off_nominal(entry.interval_us, interval_us, state.pace),
    )
