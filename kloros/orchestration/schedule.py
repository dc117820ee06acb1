"""The schedule: which beats to emit now, and when to look again. Pure; time is handed in as wall microseconds.

    beats = schedule.advance(now_us)          # decide
    wake_at = schedule.next_due_us(now_us)    # and when to decide again

Clock steps need no call of their own: both compare `now_us` with what they saw before.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import msgspec

from kloros.errors import ScheduleRefused
from kloros.orchestration import beat_rules as rules
from kloros.orchestration.due_queue import DueQueue
from kloros.orchestration.schedule_entry import Beat, Entry, EntryState, fresh_state, returned_state
from kloros.orchestration.wishes import OPERATOR, Wish, deciding

MISFIRE_GRACE_US = 1_000_000
_BEHIND = 1_000  # more than priorities can differ


class EntryView(msgspec.Struct, frozen=True):
    """An entry as it stands: configuration, memory, and when it is due next (None while paused)."""

    entry: Entry
    state: EntryState
    next_due_us: int | None


class ReloadReport(msgspec.Struct, frozen=True):
    """What a new set of entries changed, by name."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]


class Schedule:
    """All entries and their beats.

    Args:
        entries: what to run; names are unique.
        now_us: the present; a new entry is due for the first time later than this.
        remembered: states by name from an earlier life (`states()`), also of entries that no longer exist.
        grace_us: how late a beat may be before the misfire policy applies to it.
        settle_us: how long speed-ups wait after a slow-down has ended.
    """

    def __init__(
        self,
        entries: Iterable[Entry],
        now_us: int,
        remembered: Mapping[str, EntryState] | None = None,
        grace_us: int = MISFIRE_GRACE_US,
        settle_us: int = 0,
    ) -> None:
        self.suspended = False
        self.grace_us = grace_us
        self.settle_us = settle_us
        self._seen_us = now_us
        self._entries: dict[str, Entry] = {}
        self._states: dict[str, EntryState] = dict(remembered or {})
        self._queue = DueQueue()
        self._expiries = DueQueue()
        self._touched: set[str] = set()
        # Nobody waits for what an earlier life has emitted: its end may have been told meanwhile.
        self._reported_us = {name: state.last_due_us for name, state in self._states.items() if state.last_due_us}
        self._adopt({entry.name: entry for entry in entries}, now_us, "downtime")

    def __len__(self) -> int:
        return len(self._entries)

    def advance(self, now_us: int) -> list[Beat]:
        """Settle everything due up to now and return the beats to emit, earliest and then most important first."""
        self._notice(now_us)
        self._expire(now_us)
        beats: list[Beat] = []
        while not self.suspended and (name := self._queue.take(now_us)):
            beats += self._collect(name, now_us)
            self._place(name)
            self._touched.add(name)
        return beats

    def report(self, name: str, due_us: int, now_us: int) -> list[Beat]:
        """The cycle of `name` that was due at `due_us` has ended: the beats that waited for it."""
        self._reported_us[name] = max(due_us, self._reported_us.get(name, due_us))
        beats: list[Beat] = []
        for each in self._waiting_for(name):
            beats += self._end_wait(each, now_us)
            self._place(each)
            self._touched.add(each)
        return beats

    def next_due_us(self, now_us: int) -> int | None:
        """When `advance` has something to do again; in the past when it has already. None: nothing ever will."""
        self._notice(now_us)
        first_due_us = None if self.suspended else self._queue.first_due_us()
        first_expiry_us = self._expiries.first_due_us()
        return min((due_us for due_us in (first_due_us, first_expiry_us) if due_us is not None), default=None)

    def pause(self, name: str) -> None:
        """No beats until resumed; what falls due meanwhile waits for the misfire policy."""
        state = self._change(name)
        if not state.paused:
            state.paused, state.hindrance = True, "paused"
            state.note(self._seen_us, "paused")
        self._place(name)

    def resume(self, name: str) -> None:
        """Undo `pause`."""
        state = self._change(name)
        if state.paused:
            state.paused = False
            state.note(self._seen_us, "resumed")
        self._place(name)

    def trigger(self, name: str) -> Beat:
        """An un-numbered beat at once, paused or not; the entry's own beats are untouched."""
        state = self._change(name)
        if self.suspended:
            raise ScheduleRefused(schedule=name, reason="maintenance is on, nothing is triggered")
        return rules.unnumbered(self._entries[name], state, "control")

    def set_interval(self, name: str, interval_us: int | None, now_us: int, ttl_us: int | None = None) -> None:
        """Run the entry at another interval, for `ttl_us` or until further notice; None ends that."""
        state, entry = self._change(name), self._entries[name]
        lowest_us, highest_us = entry.min_interval_us, entry.max_interval_us
        if interval_us is not None and not lowest_us <= interval_us <= highest_us:
            bounds = f"{lowest_us / 1e6:g} s to {highest_us / 1e6:g} s"
            raise ScheduleRefused(schedule=name, reason=f"{interval_us / 1e6:g} s is outside of its bounds, {bounds}")
        state.override_us = interval_us
        state.override_until_us = None if interval_us is None or ttl_us is None else now_us + ttl_us
        self._retime(name, now_us)

    def set_pace(
        self, name: str, pace: float, now_us: int, ttl_us: int | None = None, source: str = OPERATOR, cause: str = ""
    ) -> None:
        """Divide the entry's interval by `pace`, for `ttl_us` or until further notice; 1.0 ends that."""
        until_us = None if ttl_us is None else now_us + ttl_us
        self.wish(name, source, None if pace == 1.0 else Wish(pace, until_us, cause), now_us)

    def wish(self, name: str, source: str, wished: Wish | None, now_us: int) -> None:
        """Take what `source` wishes for the entry's pace, or that it no longer wishes anything (None)."""
        state = self._change(name)
        if wished is not None and not self._entries[name].adaptive:
            raise ScheduleRefused(schedule=name, reason="its pace is fixed (adaptive = false)")
        was_held = state.is_held
        rules.wish(state, source, wished, now_us, self.settle_us)
        self._note_hold(state, was_held, now_us)
        self._retime(name, now_us)

    def suspend(self) -> None:
        """Maintenance: no beats until `unsuspend`."""
        self.suspended = True
        for name in self._entries:
            self._states[name].hindrance = "maintenance"
        self._touched |= self._entries.keys()

    def unsuspend(self) -> None:
        """Maintenance is over: the misfire policy settles what fell due meanwhile."""
        self.suspended = False

    def reload(self, entries: Iterable[Entry], now_us: int) -> ReloadReport:
        """Run these entries from now on. Those that stay keep their memory; if their grid moved they re-anchor once."""
        before = self._entries
        self._adopt({entry.name: entry for entry in entries}, now_us)
        stay = self._entries.keys() & before.keys()
        return ReloadReport(
            added=tuple(sorted(self._entries.keys() - before.keys())),
            removed=tuple(sorted(before.keys() - self._entries.keys())),
            changed=tuple(sorted(name for name in stay if self._entries[name] != before[name])),
        )

    def view(self, name: str) -> EntryView:
        """One entry as it stands; raises ScheduleRefused when there is none."""
        self._known(name)
        return EntryView(self._entries[name], self._states[name], self._queue.due_us(name))

    def views(self, start: int = 0, stop: int | None = None) -> Iterator[EntryView]:
        """Every entry as it stands; or those from number `start` up to `stop`."""
        entries = islice(self._entries.items(), start, stop)
        return (EntryView(entry, self._states[name], self._queue.due_us(name)) for name, entry in entries)

    def states(self) -> dict[str, EntryState]:
        """What has to be remembered: the `remembered` of the next life."""
        return dict(self._states)

    def take_changes(self) -> dict[str, EntryState]:
        """The part of `states()` that changed since this was last asked."""
        changes = {name: self._states[name] for name in self._touched}
        self._touched.clear()
        return changes

    def _adopt(self, entries: dict[str, Entry], now_us: int, downtime: str = "") -> None:
        self._entries = entries
        for name in self._states.keys() - entries.keys():
            gone = self._states[name]
            if not gone.removed:
                rules.give_up_all(gone, now_us, "removed")
                gone.removed = True
                gone.note(now_us, "removed")
            self._queue.remove(name)
            self._expiries.remove(name)
            self._touched.add(name)
        for name, entry in entries.items():
            state = self._states.get(name)
            if state is None:
                self._states[name] = fresh_state(entry, now_us)
            elif state.removed:
                self._states[name] = returned_state(entry, state, now_us)
            else:
                rules.notice_clock_behind(state, now_us)
                state.hindrance = state.hindrance or downtime
                self._forget_wishes(entry, state, now_us)
            self._retime(name, now_us)
            self._touched.add(name)

    def _forget_wishes(self, entry: Entry, state: EntryState, now_us: int) -> None:
        """What was wished while the entry was adaptive holds no longer once it is not."""
        if not entry.adaptive and state.wishes:
            was_held, state.wishes = state.is_held, {}
            self._note_hold(state, was_held, now_us)

    def _retime(self, name: str, at_us: int) -> None:
        """Follow what was set or ran out at `at_us`."""
        state = self._states[name]
        rules.retime(self._entries[name], state, at_us)
        self._place(name)
        until_us = rules.next_expiry_us(state)
        if until_us is None:
            self._expiries.remove(name)
        else:
            self._expiries.place(name, until_us)

    @staticmethod
    def _note_hold(state: EntryState, was_held: bool, at_us: int) -> None:
        if state.is_held and not was_held:
            state.hindrance = "held"
            state.note(at_us, "held", why=", ".join(source for source, _ in deciding(state.wishes)))
        elif was_held and not state.is_held:
            state.note(at_us, "released")

    def _place(self, name: str) -> None:
        entry, state = self._entries[name], self._states[name]
        if state.paused or state.is_held:
            self._queue.remove(name)
            return
        due_us, deadline_us = rules.next_due_us(state), rules.deadline_us(entry, state)
        if deadline_us is not None:
            due_us = min(due_us, deadline_us)
        self._queue.place(name, due_us, entry.priority - _BEHIND * self._depth(name))

    def _depth(self, name: str) -> int:
        """How many entries it comes after, one after the other: of beats due together, theirs go first."""
        depth, seen = 0, {name}
        while (after := self._entries[name].after) in self._entries and after not in seen:
            name = str(after)
            seen.add(name)
            depth += 1
        return depth

    def _collect(self, name: str, now_us: int) -> list[Beat]:
        entry, state = self._entries[name], self._states[name]
        beats = self._end_wait(name, now_us)
        latest_us = state.timeline.at(max(state.index, state.timeline.rank(now_us) - 1))
        return beats + rules.collect(entry, state, now_us, self.grace_us, waits=self._waits(name, latest_us))

    def _end_wait(self, name: str, now_us: int) -> list[Beat]:
        """Let go of the beat that waits in a chain, if its wait is over.

        It leaves, unless it is kept from running, or could have left long ago: then the misfire policy has it.
        """
        entry, state = self._entries[name], self._states[name]
        waiting_us, deadline_us = state.waiting_us, rules.deadline_us(entry, state)
        if waiting_us is None or deadline_us is None:
            return []
        is_over = not waiting_us <= now_us < min(deadline_us, rules.numbered_due_us(state))
        if not is_over and self._waits(name, waiting_us):
            return []
        if is_over:
            self._give_up(entry.after)
        if self.suspended or state.paused or state.is_held or now_us - deadline_us > self.grace_us:
            rules.owe_waiting(state, now_us)
            return []
        return rules.release(entry, state, now_us, "deadline" if is_over else "chain")

    def _waits(self, name: str, due_us: int | None) -> bool:
        """Whether a beat due then has to wait for the cycle of the entry it comes after."""
        after = self._entries[name].after
        upstream = None if after is None else self._states.get(after)
        if after is None or upstream is None or upstream.paused or upstream.is_held or due_us is None:
            return False
        if upstream.waiting_us is not None:
            return True
        awaited_us = upstream.last_due_us
        return awaited_us is not None and awaited_us <= due_us and self._reported_us.get(after, 0) < awaited_us

    def _give_up(self, after: str | None) -> None:
        """A report that did not come in time is waited for once, and not again by every beat until the next one."""
        upstream = None if after is None else self._states.get(after)
        if after is not None and upstream is not None and upstream.waiting_us is None and upstream.last_due_us:
            self._reported_us[after] = max(upstream.last_due_us, self._reported_us.get(after, 0))

    def _waiting_for(self, name: str) -> list[str]:
        return [
            each
            for each, entry in self._entries.items()
            if entry.after == name and self._states[each].waiting_us is not None
        ]

    def _expire(self, now_us: int) -> None:
        while name := self._expiries.take(now_us):
            state = self._states[name]
            was_held = state.is_held
            until_us = rules.expire(state, self.settle_us)
            self._note_hold(state, was_held, until_us)
            self._retime(name, until_us)
            self._touched.add(name)

    def _notice(self, now_us: int) -> None:
        """Let every entry know when the wall clock went backwards."""
        seen_us, self._seen_us = self._seen_us, now_us
        if now_us < seen_us:
            for name in self._entries:
                rules.notice_step_back(self._states[name], now_us, seen_us)
                self._place(name)
                self._touched.add(name)

    def _change(self, name: str) -> EntryState:
        self._known(name)
        self._touched.add(name)
        return self._states[name]

    def _known(self, name: str) -> None:
        if name not in self._entries:
            close = difflib.get_close_matches(name, self._entries, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ScheduleRefused(schedule=name, reason=f"there is no such entry{hint}")
