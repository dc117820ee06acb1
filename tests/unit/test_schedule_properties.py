"""The rules of scheduling under everything that happens to a scheduler, in virtual time.

A random world: real time passes, with the scheduler awake or stalled; the wall clock steps; entries are paused,
re-timed, reloaded, removed; maintenance comes and goes; the process restarts, from its last state or from an older one.
One time unit is a microsecond and the intervals are small, so that edges meet often.
"""

from __future__ import annotations

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from kloros.orchestration.proof import Dues, Window, judge_schedule
from kloros.orchestration.schedule import Schedule
from kloros.orchestration.schedule_entry import Beat, Change, Entry, EntryState, Skipped
from kloros.orchestration.wishes import HOLD, Wish, wanted_pace, without_expired

GRACE_US = 3
NAMES = ("a", "b", "c")
INTERVALS = st.integers(min_value=4, max_value=40)
SHORT = st.integers(min_value=1, max_value=60)
STEPS = st.one_of(st.integers(-30, 30), st.integers(-400, 400))
ENTRY = st.builds(
    lambda interval, offset, misfire, limit: (interval, offset % interval, misfire, limit),
    INTERVALS,
    st.integers(0, 39),
    st.sampled_from(["coalesce", "skip", "all"]),
    st.integers(1, 4),
)


class History:
    """What one entry has been seen to do, and the bounds it has to keep until its next beat."""

    def __init__(self, interval_us: int, real_us: int) -> None:
        self.dues: set[int] = set()
        self.last_due_us: int | None = None
        self.counted = 0
        self.forget_gaps(interval_us, real_us)

    def forget_gaps(self, interval_us: int, real_us: int) -> None:
        """From here on gaps are judged anew: the entry was held, or is another one."""
        self.shortest_us = self.longest_us = interval_us
        self.phase_changes = 0
        self.silence_since_us = real_us
        self.excused_us = 0

    def ran_at(self, *intervals_us: int) -> None:
        self.shortest_us = min(self.shortest_us, *intervals_us)
        self.longest_us = max(self.longest_us, *intervals_us)


def intervals_until_now(entry: Entry, state: EntryState) -> set[int]:
    """The intervals an entry has, and those it comes to as what was set for a while runs out."""
    bases = {state.override_us or entry.interval_us} | ({entry.interval_us} if state.override_until_us else set())
    moments = sorted({wish.until_us for wish in state.wishes.values() if wish.until_us is not None})
    paces = {state.pace} | {wanted_pace(without_expired(state.wishes, moment_us)) for moment_us in moments}
    paced = {min(max(round(base / pace), 2), 80) for base in bases for pace in paces if pace != 1.0}
    return {state.timeline.interval_us} | paced | (bases if 1.0 in paces else set())


class World(RuleBasedStateMachine):
    @initialize(entries=st.lists(ENTRY, min_size=1, max_size=3), start=st.integers(1_000, 2_000))
    def begin(self, entries: list[tuple[int, int, str, int]], start: int) -> None:
        self.wall_us, self.real_us = start, 0
        self.entries = {name: self.entry(name, spec) for name, spec in zip(NAMES, entries, strict=False)}
        self.schedule = Schedule(self.entries.values(), self.wall_us, grace_us=GRACE_US)
        self.histories = {name: History(entry.interval_us, 0) for name, entry in self.entries.items()}
        self.never_retimed = set(self.entries)
        self.paused: set[str] = set()
        self.older: tuple[bytes, dict[str, set[int]]] | None = None
        self.ledgers: dict[str, tuple[list[Change], list[int], list[Skipped]]] = {}

    @staticmethod
    def entry(name: str, spec: tuple[int, int, str, int]) -> Entry:
        interval, offset, misfire, limit = spec
        return Entry(
            name=name,
            signal=f"Q_TRIGGER_{name.upper()}",
            ecosystem="test",
            interval_us=interval,
            offset_us=offset,
            misfire=misfire,  # type: ignore[arg-type]
            misfire_limit=limit,
            min_interval_us=2,
            max_interval_us=80,
        )

    # What happens

    @rule(duration=SHORT)
    def time_passes(self, duration: int) -> None:
        end_us = self.wall_us + duration
        while (due_us := self.schedule.next_due_us(self.wall_us)) is not None and due_us <= end_us:
            assert due_us >= self.wall_us, "nothing may be left undone"
            self.real_us += due_us - self.wall_us
            self.wall_us = due_us
            self.wake()
        self.real_us += end_us - self.wall_us
        self.wall_us = end_us
        self.wake()

    @rule(duration=st.integers(1, 300))
    def the_scheduler_stalls(self, duration: int) -> None:
        self.wall_us += duration
        self.real_us += duration
        self.excuse(duration)
        self.wake()

    @rule(step=STEPS)
    def the_wall_clock_steps(self, step: int) -> None:
        self.wall_us += step
        self.excuse(2 * 80 if step > 0 else 0)  # `skip` may give up a beat that a forward step made stale
        self.wake()

    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        name = self.any_entry(data)
        self.schedule.pause(name)
        self.paused.add(name)

    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        name = self.any_entry(data)
        self.schedule.resume(name)
        if name in self.paused:
            self.paused.discard(name)
            self.restart_silence(name)
        self.wake()

    @rule()
    def maintenance_begins(self) -> None:
        self.schedule.suspend()

    @precondition(lambda self: self.schedule.suspended)
    @rule()
    def maintenance_ends(self) -> None:
        self.schedule.unsuspend()
        for name in self.entries:
            self.restart_silence(name)
        self.wake()

    @rule(data=st.data(), interval=st.one_of(st.none(), INTERVALS), ttl=st.one_of(st.none(), SHORT))
    def set_interval(self, data: st.DataObject, interval: int | None, ttl: int | None) -> None:
        name = self.any_entry(data)
        self.never_retimed.discard(name)
        self.schedule.set_interval(name, interval, self.wall_us, ttl)
        self.wake()

    @rule(data=st.data(), pace=st.sampled_from([0.5, 0.9, 1.0, 1.5, 3.0]), ttl=st.one_of(st.none(), SHORT))
    def set_pace(self, data: st.DataObject, pace: float, ttl: int | None) -> None:
        name = self.any_entry(data)
        self.never_retimed.discard(name)
        self.schedule.set_pace(name, pace, self.wall_us, ttl)
        self.wake()

    @rule(
        data=st.data(),
        source=st.sampled_from(["mood", "backlog"]),
        pace=st.sampled_from([HOLD, 0.25, 0.5, 1.0, 2.0, None]),
        ttl=SHORT,
    )
    def somebody_wishes_a_pace(self, data: st.DataObject, source: str, pace: float | None, ttl: int) -> None:
        name = self.any_entry(data)
        self.never_retimed.discard(name)
        wish = None if pace is None else Wish(pace, self.wall_us + ttl, "a mood")
        self.schedule.wish(name, source, wish, self.wall_us)
        self.wake()

    @rule(data=st.data(), spec=ENTRY)
    def reload_with_a_changed_entry(self, data: st.DataObject, spec: tuple[int, int, str, int]) -> None:
        name = self.any_entry(data)
        self.never_retimed.discard(name)
        self.entries[name] = self.entry(name, spec)
        self.schedule.reload(self.entries.values(), self.wall_us)
        self.histories[name].phase_changes += 1
        self.wake()

    @precondition(lambda self: len(self.entries) > 1)
    @rule(data=st.data())
    def reload_without_an_entry(self, data: st.DataObject) -> None:
        name = self.any_entry(data)
        del self.entries[name]
        assert self.schedule.reload(self.entries.values(), self.wall_us).removed == (name,)
        self.never_retimed.discard(name)
        self.paused.discard(name)
        self.wake()

    @rule(name=st.sampled_from(NAMES), spec=ENTRY)
    def reload_with_an_entry_more(self, name: str, spec: tuple[int, int, str, int]) -> None:
        if name in self.entries:
            return
        entry = self.entries[name] = self.entry(name, spec)
        assert self.schedule.reload(self.entries.values(), self.wall_us).added == (name,)
        history = self.histories.setdefault(name, History(entry.interval_us, self.real_us))
        history.last_due_us = None
        history.forget_gaps(entry.interval_us, self.real_us)
        self.wake()

    @rule(data=st.data())
    def trigger_by_hand(self, data: st.DataObject) -> None:
        if not self.schedule.suspended:
            beat = self.schedule.trigger(self.any_entry(data))
            assert (beat.beat, beat.due_us, beat.reason, beat.missed) == (None, None, "control", 0)

    @rule(downtime=st.integers(0, 200), step=st.one_of(st.just(0), STEPS))
    def restart(self, downtime: int, step: int) -> None:
        """The process comes back from what it remembered, perhaps to another wall clock."""
        self.wall_us += step
        self.write_ledger([])
        states = msgspec.json.encode(self.schedule.states())
        if self.older is None:
            self.older = states, {name: set(history.dues) for name, history in self.histories.items()}
            self.older_ledgers = {name: tuple(list(part) for part in parts) for name, parts in self.ledgers.items()}
        self.come_back(states, downtime)
        self.wake()

    @precondition(lambda self: self.older is not None)
    @rule(downtime=st.integers(0, 200))
    def restart_from_an_older_state(self, downtime: int) -> None:
        """kill -9 between emitting and remembering: beats may come again, consumers know them by their due moment."""
        assert self.older is not None
        states, dues = self.older
        self.older = None
        self.ledgers = self.older_ledgers  # written in one transaction with the states
        self.come_back(states, downtime)
        self.never_retimed.clear()
        self.paused = {view.entry.name for view in self.schedule.views() if view.state.paused}
        remembered = self.schedule.states()
        for name, history in self.histories.items():
            history.dues = set(dues.get(name, ()))
            history.last_due_us = None
            history.ran_at(2, 80)  # whatever it was doing then, it comes from there
            history.counted = remembered[name].missed - remembered[name].unreported if name in remembered else 0
        self.wake()

    def come_back(self, states: bytes, downtime: int) -> None:
        was_suspended = self.schedule.suspended
        self.wall_us += downtime
        self.real_us += downtime
        remembered = msgspec.json.decode(states, type=dict[str, EntryState])
        self.schedule = Schedule(self.entries.values(), self.wall_us, remembered, GRACE_US)
        for name in self.entries:
            self.restart_silence(name)
            self.histories[name].phase_changes += 1
        if was_suspended:
            self.schedule.suspend()

    # What must hold

    def write_ledger(self, beats: list[Beat]) -> None:
        for name, state in self.schedule.states().items():
            changes, _emitted, skips = self.ledgers.setdefault(name, ([], [], []))
            changes += state.changes
            skips += state.skips
            state.changes, state.skips = [], []
        for beat in beats:
            if beat.due_us is not None:
                self.ledgers[beat.entry.name][1].append(beat.due_us)

    @rule()
    def every_due_beat_is_proven(self) -> None:
        """Rule 15: due = emitted + skipped, by the plans alone."""
        self.write_ledger([])
        for name, (changes, emitted, skips) in self.ledgers.items():
            view = self.schedule.view(name) if name in self.entries else None
            dues = Dues(changes)
            if view is None or view.state.paused or view.state.is_held or self.schedule.suspended:
                continue  # what falls due meanwhile is settled afterwards
            owed_us = view.state.owed_us  # had come, and comes again after a step back
            settled_us = view.state.cursor_us if owed_us is None else owed_us - 1
            tally, wrong = judge_schedule(name, dues, emitted, skips, Window(0, settled_us))
            assert wrong == []
            skipped = sum(skip.count for skip in skips)
            assert tally.due == tally.emitted + sum(tally.skipped.values()) == len(set(emitted)) + skipped
            assert len(set(emitted)) == len(emitted)

    def wake(self) -> None:
        for view in self.schedule.views():
            self.histories[view.entry.name].ran_at(*intervals_until_now(view.entry, view.state))
            if view.state.is_held:
                self.restart_silence(view.entry.name)
        beats = self.schedule.advance(self.wall_us)
        assert not (beats and self.schedule.suspended), "maintenance means no beats"
        for view in self.schedule.views():
            self.histories[view.entry.name].ran_at(view.state.timeline.interval_us)
        self.write_ledger(beats)
        for beat in beats:
            self.check_beat(beat)
        for name in {beat.entry.name for beat in beats if beat.due_us is not None}:
            self.settle_bounds(name)
        self.check_rest()

    def settle_bounds(self, name: str) -> None:
        """Once an entry is where it is going, only its present interval counts."""
        state = self.schedule.view(name).state
        if state.index > state.timeline.steps:
            history = self.histories[name]
            history.shortest_us = history.longest_us = state.timeline.interval_us
            history.phase_changes = 0
            entry = self.entries[name]
            is_nominal = state.override_us is None and state.pace == 1.0
            assert not is_nominal or entry.grid.has(state.cursor_us), "back on the grid"

    def check_beat(self, beat: Beat) -> None:
        name, history = beat.entry.name, self.histories[beat.entry.name]
        assert name not in self.paused
        history.silence_since_us, history.excused_us = self.real_us, 0
        if beat.due_us is None:
            assert beat.reason == "clock"
            assert beat.beat is None
            due_us = self.schedule.view(name).next_due_us
            assert due_us is not None
            assert due_us > self.wall_us
            return
        assert beat.due_us <= self.wall_us, "never before it is due"
        assert beat.late_us == self.wall_us - beat.due_us
        assert beat.due_us not in history.dues, "never twice"
        history.dues.add(beat.due_us)
        self.check_gap(history, beat)
        if name in self.never_retimed:
            assert beat.entry.grid.has(beat.due_us), "no drift"
            assert beat.beat == (beat.due_us - beat.entry.offset_us) // beat.entry.interval_us
        history.counted += beat.missed
        history.last_due_us = beat.due_us

    @staticmethod
    def check_gap(history: History, beat: Beat) -> None:
        """Rule 4 and the count of missed beats at once: so many intervals lie between two numbered beats."""
        if history.last_due_us is None or beat.due_us is None:
            return
        intervals = beat.missed + 1
        gap_us = beat.due_us - history.last_due_us
        assert gap_us >= intervals * history.shortest_us
        assert gap_us <= (intervals + history.phase_changes) * history.longest_us

    def check_rest(self) -> None:
        due_us = self.schedule.next_due_us(self.wall_us)
        assert due_us is None or due_us > self.wall_us, "one advance settles all"
        for name, state in self.schedule.states().items():
            assert state.missed == self.histories[name].counted + state.unreported, "every missed beat is counted once"
        for name in self.entries.keys() - self.paused:
            history = self.histories[name]
            silence_us = self.real_us - history.silence_since_us
            longest_us = 2 * (1 + history.phase_changes) * history.longest_us + history.excused_us
            assert self.schedule.suspended or silence_us <= longest_us, "never silent"

    def any_entry(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.entries)), label="entry")

    def excuse(self, duration_us: int) -> None:
        for history in self.histories.values():
            history.excused_us += duration_us

    def restart_silence(self, name: str) -> None:
        self.histories[name].silence_since_us = self.real_us
        self.histories[name].excused_us = 0


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)
