"""Three days of the default schedule with every fault at random, in virtual time: nothing drifts, all of it is proven.

Real time passes in steps from one event to the next; the wall clock may be stepped; the scheduler and the consumers are
killed and come back from what they had remembered; triggers are lost, cycles take long, entries are paused, paced and
changed, maintenance comes and goes.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from kloros.daemon.fallback import BeatKeeper, Limits, Pacing, Refusal, Run, Trigger
from kloros.orchestration.proof import Dues, Window, judge_consumer, judge_schedule
from kloros.orchestration.proof import Run as Told
from kloros.orchestration.schedule import Schedule
from kloros.orchestration.schedule_config import load_schedule
from kloros.orchestration.schedule_entry import Beat, Change, Entry, EntryState, Skipped
from kloros.orchestration.schedule_facts import tick_entry
from kloros.orchestration.wishes import HOLD, Wish

S = 1_000_000
DEFAULT = Path(__file__).parents[2] / "config" / "scheduler_config.toml"
START_US = 1_700_000_000 * S
REMEMBER_US = 100_000


class Consumer:
    """A consumer's beats and cycles, as the base of all consumers handles them."""

    def __init__(self, world: World, entry: Entry, remembered: Pacing | None) -> None:
        self.world, self.entry = world, entry
        pacing = remembered or Pacing(interval_us=entry.interval_us, nominal_us=entry.interval_us)
        self.keeper = BeatKeeper(pacing, Limits(), world.mono_s)
        self.running: Run | None = None
        self.ends_s = 0.0
        self.pending: Run | None = None
        self.overlapped: list[int] = []
        self.missed = 0

    def hear(self, beat: Beat) -> None:
        trigger = Trigger(beat.beat, beat.due_us, beat.interval_us, self.world.epoch, beat.serial)
        decision = self.keeper.on_trigger(trigger, self.world.mono_s, self.world.wall_us)
        runs_it = isinstance(decision, Run) and decision.due_us is not None
        if beat.due_us is not None and not runs_it and decision is not Refusal.OLD_EPOCH:
            self.overlapped.append(beat.due_us)
        if not isinstance(decision, Refusal):
            self.request(decision, is_skipped=True)

    def tick(self) -> None:
        shown = tick_entry(self.world.schedule.view(self.entry.name))
        pacing = Pacing(
            interval_us=round(shown.interval_s * S), nominal_us=round((shown.nominal_s or 0) * S),
            offset_us=round(shown.offset_s * S), paused=shown.paused,
            anchor_us=round((shown.next_due_ts or shown.offset_s) * S),
            held_until_us=None if shown.held_until_ts is None else round(shown.held_until_ts * S),
        )  # fmt: skip
        self.keeper.on_tick(self.world.epoch, pacing, self.world.mono_s, self.world.wall_us)

    def request(self, run: Run, *, is_skipped: bool = False) -> None:
        if self.running is None:
            if run.due_us is not None:
                run, self.missed = replace(run, missed=run.missed + self.missed), 0
            self.running, self.ends_s = run, self.world.mono_s + self.world.duration_s(self.entry)
        elif is_skipped and run.due_us is not None:
            self.give_up(run)
        elif self.pending is None:
            self.pending = run
        else:
            dropped, self.pending = (run, self.pending) if run.due_us is None else (self.pending, run)
            self.give_up(dropped)

    def give_up(self, run: Run) -> None:
        self.missed += run.missed
        if run.due_us is not None:
            self.overlapped.append(run.due_us)

    def next_s(self) -> float:
        """Monotonic: when something happens by itself."""
        moments = [self.ends_s] if self.running else []
        if not self.world.is_suspended:
            if not self.keeper.engaged and not self.keeper.pacing.paused:
                moments.append(self.keeper.engage_at_s())
            due_us = self.keeper.next_local_due_us(self.world.wall_us, self.world.mono_s)
            if due_us is not None:
                moments.append(self.world.mono_s + max(0, due_us - self.world.wall_us) / S)
        return min(moments, default=float("inf"))

    def wake(self) -> None:
        if self.running and self.world.mono_s >= self.ends_s:
            self.end(self.running)
        if not self.world.is_suspended:
            run = self.keeper.on_time(self.world.wall_us, self.world.mono_s)
            if run:
                self.request(run)

    def end(self, run: Run) -> None:
        self.keeper.done(run)
        self.world.told[self.entry.name].append(Told(run.due_us, run.source.value, run.missed, tuple(self.overlapped)))
        self.running, self.overlapped = None, []
        self.world.remembered_by[self.entry.name] = self.keeper.pacing
        if run.due_us is not None and self.world.is_up:
            self.world.emit(self.world.schedule.report(self.entry.name, run.due_us, self.world.wall_us))
        if self.pending:
            pending, self.pending = self.pending, None
            self.request(pending)


class World:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.entries = {entry.name: entry for entry in load_schedule(DEFAULT).entries}
        self.wall_us, self.mono_s, self.epoch = START_US, 0.0, 1
        self.is_up, self.is_suspended = True, False
        self.schedule = Schedule(self.entries.values(), self.wall_us, settle_us=60 * S)
        self.rows: dict[str, dict[int, int]] = {name: {} for name in self.entries}
        self.changes: dict[str, list[Change]] = {name: [] for name in self.entries}
        self.skips: dict[str, list[Skipped]] = {name: [] for name in self.entries}
        self.told: dict[str, list[Told]] = {name: [] for name in self.entries}
        self.late_us: list[int] = []
        self.remembered_by: dict[str, Pacing] = {}
        self.unwritten: list[tuple[str, int, int]] = []
        self.committed = msgspec.json.encode(self.schedule.states())
        self.commit()
        self.consumers: dict[str, Consumer | None] = {}
        for name, entry in self.entries.items():
            self.consumers[name] = Consumer(self, entry, None)
        self.faults: Counter[str] = Counter()

    def duration_s(self, entry: Entry) -> float:
        longest_s = entry.interval_us / S * (1.7 if self.chance.random() < 0.01 else 0.1)
        return self.chance.uniform(0, longest_s)

    def commit(self) -> None:
        """What the scheduler remembers and what the ledger says, in one transaction."""
        for name, state in self.schedule.states().items():
            self.changes[name] += state.changes
            self.skips[name] += state.skips
            state.changes, state.skips = [], []
        for name, due_us, late_us in self.unwritten:
            self.rows[name].setdefault(due_us, late_us)
        self.unwritten = []
        self.committed = msgspec.json.encode(self.schedule.states())

    def emit(self, beats: list[Beat]) -> None:
        for beat in beats:
            if beat.due_us is not None:
                self.unwritten.append((beat.entry.name, beat.due_us, beat.late_us))
                if beat.reason == "due":
                    self.late_us.append(beat.late_us)
            consumer = self.consumers[beat.entry.name]
            if consumer and self.chance.random() > 0.0005:  # a message may be lost
                consumer.hear(beat)
        if beats and self.chance.random() < 0.98:
            self.commit()

    def run_until(self, end_s: float) -> None:
        while self.mono_s < end_s:
            moments = [consumer.next_s() for consumer in self.consumers.values() if consumer]
            if self.is_up and (due_us := self.schedule.next_due_us(self.wall_us)) is not None:
                moments.append(self.mono_s + max(0, due_us - self.wall_us) / S)
            self.pass_time(min([*moments, end_s]) - self.mono_s)

    def pass_time(self, seconds: float) -> None:
        step_us = max(1, round(seconds * S))
        self.wall_us += step_us
        self.mono_s += step_us / S
        if self.is_up:
            self.emit(self.schedule.advance(self.wall_us))
        for consumer in self.consumers.values():
            if consumer:
                consumer.wake()

    def tick(self) -> None:
        for consumer in self.consumers.values():
            if consumer and self.is_up:
                consumer.tick()

    # Faults

    def fault(self) -> None:
        kinds = (
            self.scheduler_dies, self.consumer_dies, self.clock_steps, self.entry_is_paused, self.maintenance,
            self.mood, self.interval_is_set, self.reload, self.scheduler_stalls,
        )  # fmt: skip
        kind = self.chance.choice(kinds)
        self.faults[kind.__name__] += 1
        kind()
        self.tick()

    def scheduler_dies(self) -> None:
        self.is_up = False
        self.run_until(self.mono_s + self.chance.choice([0.5, 5.0, 60.0, 1200.0]))
        remembered = msgspec.json.decode(self.committed, type=dict[str, EntryState])
        self.unwritten = []
        self.schedule = Schedule(self.entries.values(), self.wall_us, remembered, settle_us=60 * S)
        self.is_up, self.epoch = True, self.epoch + 1
        if self.is_suspended:
            self.schedule.suspend()
        self.emit(self.schedule.advance(self.wall_us))
        self.commit()

    def consumer_dies(self) -> None:
        name = self.chance.choice(sorted(self.entries))
        self.consumers[name] = None
        self.run_until(self.mono_s + self.chance.choice([0.5, 5.0, 60.0, 1200.0]))
        self.consumers[name] = Consumer(self, self.entries[name], self.remembered_by.get(name))

    def clock_steps(self) -> None:
        self.wall_us += self.chance.choice([-3600, -60, -2, -0.3, 0.3, 2, 60, 3600]) * S // 1
        self.wall_us = round(self.wall_us)

    def entry_is_paused(self) -> None:
        name = self.chance.choice(sorted(self.entries))
        self.schedule.pause(name)
        self.tick()
        self.run_until(self.mono_s + self.chance.uniform(1, 900))
        self.schedule.resume(name)

    def maintenance(self) -> None:
        self.is_suspended = True
        self.schedule.suspend()
        for consumer in self.consumers.values():
            if consumer and consumer.pending:
                consumer.give_up(consumer.pending)
                consumer.pending = None
        self.run_until(self.mono_s + self.chance.uniform(1, 600))
        self.is_suspended = False
        self.schedule.unsuspend()
        for consumer in self.consumers.values():
            if consumer:
                consumer.keeper.resume(self.mono_s, self.wall_us)

    def mood(self) -> None:
        pace = self.chance.choice([HOLD, 0.5, 1.5])
        until_us = self.wall_us + 120 * S
        for name, entry in self.entries.items():
            if entry.adaptive and self.chance.random() < 0.5:
                self.schedule.wish(name, "mood", Wish(pace, until_us, "tired"), self.wall_us)

    def interval_is_set(self) -> None:
        name = self.chance.choice(sorted(self.entries))
        interval_us = round(self.entries[name].interval_us * self.chance.uniform(0.4, 3))
        self.schedule.set_interval(name, interval_us, self.wall_us, self.chance.choice([None, 300 * S]))

    def reload(self) -> None:
        name = self.chance.choice(sorted(self.entries))
        entry = self.entries[name]
        offset_us = self.chance.randrange(0, entry.interval_us // S) * S
        self.entries[name] = msgspec.structs.replace(entry, offset_us=offset_us)
        self.schedule.reload(self.entries.values(), self.wall_us)

    def scheduler_stalls(self) -> None:
        step_us = round(self.chance.uniform(0.1, 30) * S)
        self.wall_us += step_us
        self.mono_s += step_us / S


@pytest.mark.parametrize("seed", [1, 2])
def test_three_days_with_every_fault_are_proven(seed: int) -> None:
    world = World(seed)
    end_s = 72 * 3600.0
    while world.mono_s < end_s:
        world.run_until(world.mono_s + world.chance.uniform(60, 1800))
        world.fault()
    for name in world.entries:
        world.schedule.resume(name)
        world.schedule.set_interval(name, None, world.wall_us)
    world.tick()
    world.run_until(world.mono_s + 2 * 7200)
    world.commit()
    print(f"\nfaults: {dict(world.faults)}")
    wrong = []
    total = 0
    for name in world.entries:
        state = world.schedule.view(name).state
        window = Window(0, state.cursor_us)
        dues, emitted = Dues(world.changes[name]), sorted(world.rows[name])
        tally, counterexamples = judge_schedule(name, dues, emitted, world.skips[name], window, state.unsettled)
        wrong += counterexamples
        assert tally.due - tally.open == len(emitted) + sum(skip.count for skip in world.skips[name]), (
            "each in exactly one row"
        )
        total += tally.due
        open_after_us = window.until_us - 3 * world.entries[name].interval_us
        consumer, counterexamples = judge_consumer(
            name,
            "consumer",
            dues,
            {due: due + late for due, late in world.rows[name].items()},
            world.told[name],
            window,
            open_after_us,
        )
        print(f"{name}: due {tally.due} skipped {tally.skipped} run {consumer.run} fallback {consumer.fallback} "
              f"overlapped {consumer.overlapped} lost {consumer.lost} open {consumer.open}")  # fmt: skip
        wrong += counterexamples
        # Back onto its own grid an entry goes in several steps, the last of which is the bend.
        assert world.entries[name].grid.has(max(state.cursor_us, state.timeline.bend_us)), "no drift"
    assert wrong[:5] == []
    assert total > 100_000
    assert sum(world.late_us) / len(world.late_us) < 1000, "mean lateness below 1 ms"
