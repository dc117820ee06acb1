"""Chained entries under everything that can be done to a schedule, at random: each due beat has exactly one end."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

import msgspec
import pytest

from kloros.errors import ScheduleRefused
from kloros.orchestration.proof import Dues, Window, judge_schedule
from kloros.orchestration.schedule import Schedule
from kloros.orchestration.schedule_entry import Beat, Change, Entry, EntryState, Skipped
from kloros.orchestration.wishes import HOLD, Wish

S = 1_000_000
START_US = 1_700_000_040 * S
CHAIN = {"a": None, "b": "a", "c": "b"}
MOST_STEPS = 60


class World:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.is_chained, self.has_steps_back, self.has_removals = (bool(seed >> bit & 1) for bit in range(3))
        self.now_us = START_US
        self.entries = self.some_entries()
        self.schedule = Schedule(self.entries, START_US, settle_us=self.chance.choice([0, 60 * S]))
        self.emitted: dict[str, list[int]] = {name: [] for name in CHAIN}
        self.changes: dict[str, list[Change]] = {name: [] for name in CHAIN}
        self.skips: dict[str, list[Skipped]] = {name: [] for name in CHAIN}

    def some_entries(self) -> list[Entry]:
        return [self.some_entry(name, after if self.is_chained else None) for name, after in CHAIN.items()]

    def some_entry(self, name: str, after: str | None) -> Entry:
        interval_us = self.chance.choice([1, 5, 7, 10, 60, 300]) * S + self.chance.choice([0, 0, 1, 333])
        return Entry(
            name=name,
            signal=f"Q_TRIGGER_{name.upper()}",
            ecosystem="test",
            interval_us=interval_us,
            offset_us=self.chance.randrange(interval_us),
            adaptive=self.chance.random() < 0.8,
            misfire=self.chance.choice(["coalesce", "skip", "all"]),
            misfire_limit=self.chance.choice([1, 3, 10]),
            max_interval_us=self.chance.choice([interval_us, 3600 * S]),
            after=after,
            deadline_us=interval_us // self.chance.choice([2, 4]) if after else 0,
        )

    def a_name(self) -> str:
        return self.chance.choice([entry.name for entry in self.entries])

    # What happens

    def something_happens(self) -> None:
        kinds: list[Callable[[], None]] = [
            *[self.time_passes] * 6, *[self.a_cycle_ends] * 2, self.the_scheduler_stalls, self.pause, self.resume,
            self.set_pace, self.hold, self.take_back, self.set_interval, self.back_to_its_interval, self.reload,
            self.maintenance_begins, self.maintenance_ends, self.restart,
            *[self.the_clock_goes_back] * (2 * self.has_steps_back), *[self.an_entry_comes_or_goes] * self.has_removals,
        ]  # fmt: skip
        with suppress(ScheduleRefused):  # an entry that is not adaptive, an interval out of bounds: nothing has changed
            self.chance.choice(kinds)()
        self.write_down()

    def time_passes(self) -> None:
        end_us = self.now_us + self.chance.choice([1, 10, 100, 600]) * S // self.chance.choice([1, 3])
        while (due_us := self.schedule.next_due_us(self.now_us)) is not None and due_us <= end_us:
            self.now_us = max(self.now_us, due_us)
            self.advance()
            if self.chance.random() < 0.3:
                self.a_cycle_ends()
        self.now_us = end_us
        self.advance()

    def the_scheduler_stalls(self) -> None:
        self.now_us += self.chance.choice([2, 30, 900, 7200]) * S + self.chance.randrange(S)

    def the_clock_goes_back(self) -> None:
        self.now_us -= self.chance.choice([1, 30, 3600]) * S + self.chance.randrange(S)
        self.advance()

    def a_cycle_ends(self) -> None:
        name = self.a_name()
        if self.emitted[name]:
            self.take(self.schedule.report(name, self.emitted[name][-1], self.now_us))

    def pause(self) -> None:
        self.schedule.pause(self.a_name())

    def resume(self) -> None:
        self.schedule.resume(self.a_name())

    def set_pace(self) -> None:
        pace, ttl_us = self.chance.choice([0.1, 0.5, 1.5, 2.0, 7.0]), self.chance.choice([None, 10 * S, 100 * S])
        self.schedule.set_pace(self.a_name(), pace, self.now_us, ttl_us, self.chance.choice(["operator", "mood"]))

    def hold(self) -> None:
        until_us = self.now_us + self.chance.choice([5, 50]) * S
        self.schedule.wish(self.a_name(), "brake", Wish(HOLD, until_us), self.now_us)

    def take_back(self) -> None:
        self.schedule.wish(self.a_name(), self.chance.choice(["operator", "mood", "brake"]), None, self.now_us)

    def set_interval(self) -> None:
        interval_us, ttl_us = self.chance.choice([1, 3, 20, 400]) * S, self.chance.choice([None, 30 * S])
        self.schedule.set_interval(self.a_name(), interval_us, self.now_us, ttl_us)

    def back_to_its_interval(self) -> None:
        self.schedule.set_interval(self.a_name(), None, self.now_us)

    def reload(self) -> None:
        self.entries = self.some_entries()
        self.schedule.reload(self.entries, self.now_us)

    def an_entry_comes_or_goes(self) -> None:
        self.entries = self.entries[:-1] if len(self.entries) == len(CHAIN) else self.some_entries()
        self.schedule.reload(self.entries, self.now_us)

    def maintenance_begins(self) -> None:
        self.schedule.suspend()

    def maintenance_ends(self) -> None:
        self.schedule.unsuspend()
        self.advance()

    def restart(self) -> None:
        self.write_down()
        remembered = msgspec.json.decode(msgspec.json.encode(self.schedule.states()), type=dict[str, EntryState])
        was_suspended = self.schedule.suspended
        self.schedule = Schedule(self.entries, self.now_us, remembered)
        if was_suspended:
            self.schedule.suspend()

    # What must hold

    def advance(self) -> None:
        self.take(self.schedule.advance(self.now_us))

    def take(self, beats: list[Beat]) -> None:
        for beat in beats:
            state = self.schedule.view(beat.entry.name).state
            is_kept = self.schedule.suspended or state.paused or state.is_held
            assert not is_kept, "nothing runs that is kept from running"
            if beat.due_us is not None:
                assert beat.due_us not in self.emitted[beat.entry.name], "never twice"
                self.emitted[beat.entry.name].append(beat.due_us)

    def write_down(self) -> None:
        for name, state in self.schedule.take_changes().items():
            self.changes[name] += state.changes
            self.skips[name] += state.skips
            state.changes, state.skips = [], []

    def judge(self) -> None:
        for name, state in self.schedule.states().items():
            window = Window(0, state.cursor_us)
            dues = Dues(self.changes[name])
            tally, wrong = judge_schedule(name, dues, self.emitted[name], self.skips[name], window, state.unsettled)
            assert wrong == []
            ends = len(self.emitted[name]) + sum(skip.count for skip in self.skips[name])
            assert tally.due == ends + tally.open, "each in exactly one row"


@pytest.mark.parametrize("seed", range(200))
def test_whatever_is_done_to_a_chain_each_due_beat_has_one_end(seed: int) -> None:
    world = World(seed)
    for _ in range(world.chance.randrange(5, MOST_STEPS)):
        world.something_happens()
    world.maintenance_ends()
    for entry in world.entries:
        world.schedule.resume(entry.name)
    world.time_passes()
    world.write_down()
    world.judge()
