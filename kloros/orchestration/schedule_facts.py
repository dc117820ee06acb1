"""The schedule as its signals show it. Pure; moments become epoch seconds here."""

from __future__ import annotations

from collections.abc import Iterable

from kloros.chembus.facts import TickEntry, TriggerFacts
from kloros.orchestration.beat_rules import MOST_CHARACTERS, next_expiry_us, numbered_due_us
from kloros.orchestration.schedule import EntryView
from kloros.orchestration.schedule_entry import Beat, Entry, EntryState
from kloros.orchestration.wishes import Wish, deciding, held_until_us
from kloros.units import us_to_seconds


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
        overlap=beat.entry.overlap,
        serial=beat.serial,
    )


def why(beat: Beat) -> str | None:
    """What a person would ask about: why this beat is not simply due as configured. None when it is."""
    reasons = []
    if beat.reason == "control":
        reasons.append("triggered by hand")
    if beat.reason == "clock":
        reasons.append("the wall clock was set back and repeats time that was already worked")
    if beat.reason == "chain":
        reasons.append(f"waited {beat.late_us / 1e6:.3g} s for {beat.entry.after} to end")
    if beat.reason == "deadline":
        reasons.append(f"waited in vain for {beat.entry.after}, up to its deadline of {beat.late_us / 1e6:.3g} s")
    if beat.reason == "misfire":
        reasons.append(f"could not be emitted in time, {beat.missed} before it were missed")
    if beat.interval_us != beat.entry.interval_us:
        reasons.append(off_nominal(beat.entry, beat.interval_us, beat.pace, beat.causes))
    return "; ".join(reasons)[:MOST_CHARACTERS] or None


def off_nominal(entry: Entry, interval_us: int, pace: float, causes: Iterable[tuple[str, Wish]]) -> str:
    """An interval that is not the configured one, in words: what it is made of, step by step."""
    words = [f"base {us_to_seconds(entry.interval_us):g} s"]
    if pace != 1.0:
        who = "; ".join(f"{source} ({wish.cause})" if wish.cause else source for source, wish in causes)
        words.append(f"{who} × {pace:g}" if who else f"× {pace:g}")
        paced_us = round(entry.interval_us / pace)
        if interval_us != paced_us and interval_us in (entry.min_interval_us, entry.max_interval_us):
            return f"{', '.join(words)}, clamped to {us_to_seconds(interval_us):g} s"
    else:
        words.append("as set")
    return f"{', '.join(words)}: {us_to_seconds(interval_us):g} s"


def held(state: EntryState) -> str | None:
    """Why an entry does not run, in words; None when it does."""
    if not state.is_held:
        return None
    return "; ".join(f"held by {source}" + (f" ({w.cause})" if w.cause else "") for source, w in deciding(state.wishes))


def tick_entry(view: EntryView) -> TickEntry:
    """One entry of the tick. `next_due_ts` is its next numbered beat; one that is paused or held has none."""
    entry, state = view.entry, view.state
    interval_us, until_us = state.timeline.interval_us, next_expiry_us(state)
    is_nominal, is_still = interval_us == entry.interval_us, state.paused or state.is_held
    held_until = None if state.paused else held_until_us(state.wishes)
    why = None if is_nominal else off_nominal(entry, interval_us, state.pace, deciding(state.wishes))
    return TickEntry(
        signal=entry.signal,
        interval_s=us_to_seconds(interval_us),
        nominal_s=us_to_seconds(entry.interval_us),
        offset_s=us_to_seconds(entry.offset_us),
        pace=state.pace,
        next_due_ts=None if is_still else us_to_seconds(numbered_due_us(state)),
        last_beat=state.last_beat,
        last_due_ts=None if state.last_due_us is None else us_to_seconds(state.last_due_us),
        paused=is_still,
        missed=state.missed,
        misfires=state.misfires,
        emitted=state.emitted,
        priority=entry.priority,
        override_until_ts=None if until_us is None else us_to_seconds(until_us),
        why=(held(state) or why or "")[:MOST_CHARACTERS] or None,
        adaptive=entry.adaptive,
        held=state.is_held,
        held_until_ts=None if held_until is None else us_to_seconds(held_until),
        after=entry.after,
    )
