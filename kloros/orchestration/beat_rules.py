"""The rules of beats: which are due, missed, repeated or moved, for one entry. Pure; all times in wall microseconds."""

from __future__ import annotations

from kloros.daemon.grid import beat_number
from kloros.orchestration import wishes
from kloros.orchestration.schedule_entry import Beat, Entry, EntryState, Reason, Skipped
from kloros.orchestration.timeline import glide, re_anchored
from kloros.orchestration.wishes import Wish

MOST_CHARACTERS = 1000
"""Of the reasons given for what an entry does, however many have a say: a page of the tick has a hundred entries."""


def numbered_due_us(state: EntryState) -> int:
    """The next moment of the grid that is not settled; in the past when it awaits the misfire policy."""
    return state.timeline.at(state.index) if state.owed_us is None else state.owed_us


def next_due_us(state: EntryState) -> int:
    """When the entry is to be looked at next.

    While time repeats itself, what is left of it until the next numbered beat is divided evenly, into parts no shorter
    than the present interval.
    """
    due_us = numbered_due_us(state)
    if state.echo_us is None:
        return due_us
    left_us = due_us - state.echo_us
    return state.echo_us + left_us // max(1, left_us // _gap_us(state, due_us))


def _gap_us(state: EntryState, due_us: int) -> int:
    """The present distance of two beats."""
    return max(state.timeline.interval_us, due_us - state.cursor_us)


def collect(entry: Entry, state: EntryState, now_us: int, grace_us: int, *, waits: bool = False) -> list[Beat]:
    """Settle every due moment up to now and return the beats to emit, by the entry's misfire policy.

    waits: a beat that is in time is not emitted yet, but waits for `release`.

    `grace_us`: a due moment is late enough for `skip` to give it up, and to be called a misfire, after that long.
    """
    rank = state.timeline.rank(now_us)
    dues = range(state.index, rank)
    is_owed = state.owed_us is not None and state.owed_us <= now_us
    if not dues and not is_owed:
        return _echo(entry, state, now_us)
    waiting = len(dues) + is_owed
    last_us = state.timeline.at(rank - 1) if dues else state.owed_us
    assert last_us is not None
    is_misfire = waiting > 1 or now_us - last_us > grace_us
    emitted = _to_emit(entry, state, dues, last_us, now_us - last_us > grace_us) if is_misfire else [last_us]
    if waiting > len(emitted):
        _give_up(state, dues, waiting - len(emitted), state.hindrance or "late", now_us)
    state.misfires += is_misfire
    state.hindrance = ""
    state.index, state.cursor_us = max(state.index, rank), last_us
    state.owed_us = state.echo_us = None
    if waits and not is_misfire:
        state.waiting_us = last_us
        return []
    return [_numbered(entry, state, due_us, now_us, "misfire" if is_misfire else "due") for due_us in emitted]


def _to_emit(entry: Entry, state: EntryState, dues: range, last_us: int, is_stale: bool) -> list[int]:
    """The misfire policy: which of the due moments that have come get a beat."""
    if entry.misfire == "coalesce":
        return [last_us]
    if entry.misfire == "skip":
        return [] if is_stale else [last_us]
    owed = [] if state.owed_us is None else [state.owed_us]
    return (owed + [state.timeline.at(index) for index in dues[-entry.misfire_limit :]])[-entry.misfire_limit :]


def _give_up(state: EntryState, dues: range, count: int, reason: str, now_us: int) -> None:
    """Count the first `count` due moments that await their beat as missed: the one that is owed, then `dues`."""
    owed_us = state.owed_us
    first_us = state.timeline.at(dues[0]) if owed_us is None else owed_us
    last = count - (owed_us is not None)
    last_us = state.timeline.at(dues[last - 1]) if last else first_us
    state.missed += count
    state.unreported += count
    state.skips.append(Skipped(first_us, last_us, count, reason, now_us))


def _give_up_waiting(state: EntryState, reason: str, now_us: int) -> None:
    """Count the beat that waits in a chain as missed, if one does."""
    due_us, state.waiting_us = state.waiting_us, None
    if due_us is not None:
        state.missed += 1
        state.unreported += 1
        state.skips.append(Skipped(due_us, due_us, 1, reason, now_us))


def give_up_all(state: EntryState, now_us: int, reason: str) -> None:
    """Nothing that has come will get its beat any more."""
    dues = range(state.index, max(state.index, state.timeline.rank(now_us)))
    waiting = len(dues) + (state.owed_us is not None)
    _give_up_waiting(state, reason, now_us)
    if waiting:
        _give_up(state, dues, waiting, reason, now_us)
        state.cursor_us = state.timeline.at(dues[-1]) if dues else state.owed_us or state.cursor_us
        state.index, state.owed_us = dues.stop, None


def _numbered(entry: Entry, state: EntryState, due_us: int, now_us: int, reason: Reason) -> Beat:
    state.numbered += 1
    beat = Beat(
        entry=entry,
        serial=state.numbered,
        reason=reason,
        interval_us=state.timeline.interval_us,
        pace=state.pace,
        beat=beat_number(due_us, state.offset_us, state.nominal_us),
        due_us=due_us,
        late_us=now_us - due_us,
        missed=state.unreported,
        causes=tuple(wishes.deciding(state.wishes)),
    )
    state.last_due_us, state.last_beat, state.unreported = due_us, beat.beat, 0
    state.emitted += 1
    return beat


def release(entry: Entry, state: EntryState, now_us: int, reason: Reason) -> list[Beat]:
    """The beat that waited, if one did."""
    due_us, state.waiting_us = state.waiting_us, None
    return [] if due_us is None else [_numbered(entry, state, due_us, now_us, reason)]


def deadline_us(entry: Entry, state: EntryState) -> int | None:
    """Until when a beat waits in a chain; None when none does.

    At most half the present interval, as at the nominal one: the next beat finds nobody waiting.
    """
    if state.waiting_us is None:
        return None
    return state.waiting_us + min(entry.deadline_us, state.timeline.interval_us // 2)


def owe_waiting(state: EntryState, now_us: int) -> None:
    """The beat that waits in a chain was kept from leaving: it awaits the misfire policy, unless a later one does."""
    if state.owed_us is None:
        state.owed_us, state.waiting_us = state.waiting_us, None
    else:
        _give_up_waiting(state, state.hindrance or "late", now_us)


def _echo(entry: Entry, state: EntryState, now_us: int) -> list[Beat]:
    """While stepped-back time repeats itself, an un-numbered beat every interval: work goes on, no beat runs twice."""
    due_us = next_due_us(state)
    if state.echo_us is None or due_us > now_us:
        return []
    late_us = (now_us - due_us) % (due_us - state.echo_us)
    state.echo_us = now_us - late_us
    return [unnumbered(entry, state, "clock", late_us)]


def unnumbered(entry: Entry, state: EntryState, reason: Reason, late_us: int = 0) -> Beat:
    """A beat that stands for no moment of the grid and always runs."""
    state.emitted += 1
    return Beat(
        entry=entry,
        reason=reason,
        interval_us=state.timeline.interval_us,
        pace=state.pace,
        late_us=late_us,
        causes=tuple(wishes.deciding(state.wishes)),
    )


def notice_step_back(state: EntryState, now_us: int, seen_us: int) -> None:
    """The wall clock went back from `seen_us` to now. Silence is counted from the last beat, in the new time."""
    last_us = state.cursor_us if state.echo_us is None else state.echo_us
    gap_us = _gap_us(state, numbered_due_us(state))
    state.echo_us = now_us - min(gap_us, max(0, seen_us - last_us))
    state.note(now_us, "clock_back", seen_us)


def notice_clock_behind(state: EntryState, now_us: int) -> None:
    """What is remembered comes from a clock that was ahead of this one: count silence from now."""
    if state.cursor_us > now_us and (state.echo_us is None or state.echo_us > now_us):
        state.echo_us = now_us


def effective_interval_us(entry: Entry, state: EntryState) -> int:
    """The interval the entry should run at: its own or the one set, divided by pace, within its bounds."""
    base_us = state.override_us or entry.interval_us
    paced_us = base_us if state.pace == 1.0 else round(base_us / state.pace)
    return min(max(paced_us, entry.min_interval_us), entry.max_interval_us)


def retime(entry: Entry, state: EntryState, at_us: int) -> None:
    """Follow a change of interval, pace or configuration made at `at_us`: one re-anchor, or the glide to the grid."""
    old_us, new_us = state.timeline.interval_us, effective_interval_us(entry, state)
    is_moved = (entry.interval_us, entry.offset_us) != (state.nominal_us, state.offset_us)
    state.nominal_us, state.offset_us = entry.interval_us, entry.offset_us
    if new_us == old_us and not (is_moved and new_us == entry.interval_us):
        return
    _owe(state, at_us)
    if new_us == entry.interval_us:
        because = "configured anew" if is_moved else "back to its own interval"
        state.plan(glide(state.cursor_us, at_us, old_us, entry.grid), at_us, because)
    else:
        causes = (
            f"{source} ({each.cause}) × {each.pace:g}" if each.cause else f"{source} × {each.pace:g}"
            for source, each in wishes.pacing(state.wishes)
        )  # fmt: skip
        state.plan(re_anchored(state.cursor_us, at_us, new_us), at_us, "; ".join(causes)[:MOST_CHARACTERS] or "as set")


def next_expiry_us(state: EntryState) -> int | None:
    """When the first thing that was set for a while runs out."""
    all_untils = (state.override_until_us, wishes.next_expiry_us(state.wishes))
    untils = [until_us for until_us in all_untils if until_us is not None]
    return min(untils, default=None)


def expire(state: EntryState, settle_us: int) -> int:
    """End what runs out first; returns when that was. See `wish` for `settle_us`."""
    until_us = next_expiry_us(state)
    assert until_us is not None
    if state.override_until_us == until_us:
        state.override_us = state.override_until_us = None
    _take_wishes(state, wishes.without_expired(state.wishes, until_us), until_us, settle_us)
    return until_us


def wish(state: EntryState, source: str, wished: Wish | None, now_us: int, settle_us: int) -> None:
    """Take a source's wish in the place of its last one; None takes it back.

    For `settle_us` after the last slow-down has ended, speed-ups have to wait.
    """
    others = {name: each for name, each in state.wishes.items() if name != source}
    _take_wishes(state, others if wished is None else {**others, source: wished}, now_us, settle_us)


def _take_wishes(state: EntryState, after: dict[str, Wish], now_us: int, settle_us: int) -> None:
    if settle_us and wishes.is_slow(state.wishes) and not wishes.is_slow(after):
        after[wishes.SETTLING] = Wish(wishes.STEADY, now_us + settle_us)
    state.wishes = after


def _owe(state: EntryState, at_us: int) -> None:
    """Keep the latest due moment that has come and awaits its beat; give up the ones before it."""
    rank = state.timeline.rank(at_us)
    waiting = rank - state.index
    if waiting <= 0:
        return
    given_up = waiting - (state.owed_us is None)
    if given_up:
        _give_up(state, range(state.index, rank), given_up, state.hindrance or "re-planned", at_us)
    state.owed_us = state.cursor_us = state.timeline.at(rank - 1)
    state.index = rank
