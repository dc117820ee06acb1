"""What a consumer does about its beats, pure: which triggers it runs, when it falls back to its own clock.

A beat is known by its due moment. The latest one done is remembered, so that a scheduler that restarts, a late trigger
and the fallback can never run the same beat twice. Wall times are microseconds, monotonic times seconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from enum import StrEnum

import msgspec

from kloros.chembus.signals import TICK_DEADLINE_S
from kloros.daemon.grid import Grid, beat_number
from kloros.units import US_PER_S, seconds_to_us


class Source(StrEnum):
    """Who asked for a cycle."""

    TRIGGER = "trigger"
    FALLBACK = "fallback"
    INJECTED = "injected"


class Refusal(StrEnum):
    """Why a trigger runs nothing."""

    DUPLICATE = "duplicate_beat"
    OLD_EPOCH = "old_epoch"


class Pacing(msgspec.Struct, frozen=True):
    """What a consumer last knew of its entry; kept on disk. Times in microseconds.

    anchor_us: a due moment since which this grid holds. What lies before it on the grid was never due.
    held_until_us: when a pause ends by itself, whether the scheduler lives to say so or not; None: when it says so.
    """

    interval_us: int
    nominal_us: int
    offset_us: int = 0
    anchor_us: int = 0
    paused: bool = False
    held_until_us: int | None = None
    done_us: int | None = None
    serial: int | None = None


@dataclass(frozen=True)
class Run:
    """A cycle to run; `beat` and `due_us` are None when it is not a numbered beat."""

    source: Source
    beat: int | None = None
    due_us: int | None = None
    missed: int = 0
    is_skipped_when_busy: bool = False
    serial: int | None = None


@dataclass(frozen=True)
class Trigger:
    """The part of a trigger message that decides."""

    beat: int | None
    due_us: int | None
    interval_us: int | None
    epoch: int
    serial: int | None = None


@dataclass(frozen=True)
class Limits:
    """When to fall back. `missed_intervals` of silence always; with `heartbeat_fallback` also at the first beat that is
    due after the scheduler's tick has been silent for `tick_silence_s`."""

    missed_intervals: float = 2.0
    heartbeat_fallback: bool = False
    tick_silence_s: float = TICK_DEADLINE_S


# A due beat is left to the scheduler for this long before a heartbeat fallback runs it.
TRIGGER_GRACE_US = 100_000
# Beats that are known to have run, when a clock that was set back shows their due moments again. A scheduler may emit
# again what it emitted just before it was killed.
LATELY = 2
# A lower epoch is refused only while the higher one is alive; otherwise a reset scheduler would never be heard again.
EPOCH_ALIVE_S = 10.0


class BeatKeeper:
    """The state of one consumer's beats. Feed it triggers, ticks and the time; it says what to run."""

    def __init__(self, pacing: Pacing, limits: Limits, now_s: float) -> None:
        self.pacing = pacing
        self.engaged = False
        self._limits = limits
        self._heard_s = now_s
        self._tick_s: float | None = None
        self._epoch = 0
        self._epoch_s = 0.0
        self._taken_us = pacing.done_us
        self._accounted_us = pacing.done_us
        self._lately_us = deque([] if pacing.done_us is None else [pacing.done_us], maxlen=LATELY)
        self._serial = pacing.serial
        self._unheard = 0
        self._unnumbered_s: float | None = None

    @property
    def grid(self) -> Grid:
        """The due moments at the entry's present interval."""
        return Grid(self.pacing.anchor_us, self.pacing.interval_us)

    def on_trigger(self, trigger: Trigger, now_s: float, now_us: int) -> Run | Refusal:
        """A trigger was heard. Only a scheduler's own (with an epoch) counts as hearing the scheduler."""
        if not trigger.epoch:
            return Run(Source.INJECTED)
        if trigger.epoch < self._epoch and now_s - self._epoch_s < EPOCH_ALIVE_S:
            return Refusal.OLD_EPOCH
        self._hear_scheduler(trigger.epoch, now_s)
        self._heard_s = now_s
        self.engaged = False
        if trigger.due_us is None or trigger.beat is None:
            return Run(Source.TRIGGER)
        if self._taken_us is not None and trigger.due_us <= self._taken_us:
            self._note_serial(trigger.serial)
            return self._repeated(trigger.due_us, trigger.serial, now_us)
        if trigger.interval_us:
            self._repace(interval_us=trigger.interval_us, anchor_us=trigger.due_us)
        self._note_serial(trigger.serial)
        run = self._take(Source.TRIGGER, trigger.due_us, trigger.beat)
        unheard, self._unheard = self._unheard, 0
        return replace(run, missed=max(run.missed, unheard), serial=trigger.serial)

    def on_tick(self, epoch: int, entry: Pacing | None, now_s: float, now_us: int) -> None:
        """The scheduler's tick was heard, with what it says of this consumer's entry (None: nothing on this page)."""
        if epoch < self._epoch and now_s - self._epoch_s < EPOCH_ALIVE_S:
            return
        self._hear_scheduler(epoch, now_s)
        self._tick_s = now_s
        if entry is None:
            return
        if self.pacing.paused and not entry.paused:
            self.resume(now_s, now_us)
        if entry.interval_us < self.pacing.interval_us:
            self._heard_s = now_s  # silence that was right at the longer interval is no silence yet at this one
        is_same_grid = entry.interval_us == self.pacing.interval_us and self.grid.has(entry.anchor_us)
        self._repace(
            interval_us=entry.interval_us,
            nominal_us=entry.nominal_us,
            offset_us=entry.offset_us,
            anchor_us=self.pacing.anchor_us if is_same_grid else entry.anchor_us,
            paused=entry.paused,
            held_until_us=entry.held_until_us,
        )

    def resume(self, now_s: float, now_us: int) -> None:
        """A pause or maintenance ended (at `now_us`): silence is counted from here, what was skipped is not missed."""
        self._heard_s = now_s
        self._accounted_us = max(now_us, self._accounted_us or 0)

    def silent_s(self, now_s: float) -> float:
        """How long no trigger was heard."""
        return now_s - self._heard_s

    def engage_at_s(self) -> float:
        """The monotonic moment at which silence becomes a fallback."""
        return self._heard_s + self._limits.missed_intervals * self.pacing.interval_us / US_PER_S

    def next_local_due_us(self, now_us: int, now_s: float) -> int | None:
        """The next beat this consumer would run by itself, or the end of a hold; None while it waits for the scheduler
        or is paused."""
        if self.pacing.paused:
            return self.pacing.held_until_us
        if self._is_ahead(now_us):
            return self._next_unnumbered_us(now_us, now_s) if self.engaged else None
        if self.engaged:
            return self._next_due_us(now_us)
        if self._limits.heartbeat_fallback and self._tick_s is not None:
            due_us = self._next_due_us(now_us - TRIGGER_GRACE_US)
            silent_until_us = now_us + round((self._tick_s + self._limits.tick_silence_s - now_s) * US_PER_S)
            return max(due_us + TRIGGER_GRACE_US, silent_until_us)
        return None

    def on_time(self, now_us: int, now_s: float) -> Run | None:
        """Time passed: the beat to run locally, if one is due and the scheduler is silent. May engage the fallback."""
        self._end_hold(now_us, now_s)
        if self.pacing.paused:
            return None
        if not self.engaged:
            if not self._is_silent(now_us, now_s):
                return None
            self.engaged = True
        return self._local_beat(now_us, now_s)

    def done(self, run: Run) -> None:
        """Its cycle has ended: that beat will never run again."""
        dues_us = [due_us for due_us in (run.due_us, self.pacing.done_us) if due_us is not None]
        done_us, serial = max(dues_us, default=None), run.serial or self.pacing.serial
        self.pacing = msgspec.structs.replace(self.pacing, done_us=done_us, serial=serial)

    def _repeated(self, due_us: int, serial: int | None, now_us: int) -> Run | Refusal:
        """A trigger for a moment not later than the last one taken. Where the wall clock was set back behind that, and
        the scheduler knows nothing of it, time repeats itself: work goes on without numbers."""
        is_ahead = self._taken_us is not None and self._taken_us > now_us
        is_present = abs(now_us - due_us) <= self.pacing.interval_us
        if not is_ahead or not is_present or due_us in self._lately_us:
            return Refusal.DUPLICATE
        self._lately_us.append(due_us)
        return Run(Source.TRIGGER, serial=serial)

    def _end_hold(self, now_us: int, now_s: float) -> None:
        until_us = self.pacing.held_until_us
        if self.pacing.paused and until_us is not None and now_us >= until_us:
            self.pacing = msgspec.structs.replace(self.pacing, paused=False, held_until_us=None)
            self.resume(now_s, until_us)

    def _note_serial(self, serial: int | None) -> None:
        """Count the triggers emitted since the last one heard. A smaller serial means a schedule begun anew."""
        before, self._serial = self._serial, serial
        if serial is not None and before is not None:
            self._unheard += max(0, serial - before - 1)

    def _is_silent(self, now_us: int, now_s: float) -> bool:
        if now_s >= self.engage_at_s():
            return True
        if not self._limits.heartbeat_fallback or self._tick_s is None:
            return False
        tick_is_silent = now_s - self._tick_s >= self._limits.tick_silence_s
        due_us = self.grid.due_at_or_before(now_us - TRIGGER_GRACE_US)
        return tick_is_silent and self._is_open(due_us) and due_us > (self._accounted_us or 0)

    def _local_beat(self, now_us: int, now_s: float) -> Run | None:
        if self._is_ahead(now_us):
            if self._next_unnumbered_us(now_us, now_s) > now_us:
                return None
            self._unnumbered_s = now_s
            return Run(Source.FALLBACK)
        due_us = self.grid.due_at_or_before(now_us)
        if not self._is_open(due_us):
            return None
        return self._take(Source.FALLBACK, due_us, beat_number(due_us, self.pacing.offset_us, self.pacing.nominal_us))

    def _is_open(self, due_us: int) -> bool:
        """Whether it is a beat of the present grid that nobody has run."""
        return due_us > (self._taken_us or 0) and due_us >= self.pacing.anchor_us

    def _is_ahead(self, now_us: int) -> bool:
        """The wall clock was stepped back behind beats that are done or planned: their numbers must not run."""
        return max(self._taken_us or 0, self.pacing.anchor_us) > now_us + self.pacing.interval_us

    def _next_unnumbered_us(self, now_us: int, now_s: float) -> int:
        """An interval after the last one, however often it is asked."""
        if self._unnumbered_s is None:
            return now_us
        waited_us = seconds_to_us(now_s - self._unnumbered_s)
        return now_us + max(0, self.pacing.interval_us - waited_us)

    def _next_due_us(self, now_us: int) -> int:
        return self.grid.due_after(max(now_us, self._taken_us or 0, self.pacing.anchor_us - 1))

    def _take(self, source: Source, due_us: int, beat: int) -> Run:
        seen_us = max(self._taken_us or 0, self._accounted_us or 0)
        missed = len(self.grid.beats_between(seen_us, due_us - 1)) if seen_us and seen_us < due_us else 0
        self._taken_us = due_us
        self._lately_us.append(due_us)
        return Run(source, beat, due_us, missed)

    def _hear_scheduler(self, epoch: int, now_s: float) -> None:
        self._epoch, self._epoch_s = epoch, now_s

    def _repace(self, *, interval_us: int, anchor_us: int, **others: int | bool | None) -> None:
        if interval_us != self.pacing.interval_us:
            # Beats are not counted as missed across a change: the two grids do not compare, the scheduler's count does.
            self._accounted_us = anchor_us - 1
        changes = {"interval_us": interval_us, "anchor_us": anchor_us, **others}
        if any(getattr(self.pacing, name) != value for name, value in changes.items()):
            self.pacing = msgspec.structs.replace(self.pacing, **changes)
