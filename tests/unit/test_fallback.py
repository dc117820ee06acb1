"""A consumer's beats: which triggers it runs, when it takes to its own clock, and that no beat runs twice."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from kloros.daemon.fallback import BeatKeeper, Limits, Pacing, Refusal, Run, Source, Trigger

S = 1_000_000
T0 = 1_700_000_000 * S
INTERVAL_S = 5


def keeper(done_us: int | None = T0, limits: Limits | None = None) -> BeatKeeper:
    pacing = Pacing(interval_us=INTERVAL_S * S, nominal_us=INTERVAL_S * S, done_us=done_us)
    return BeatKeeper(pacing, limits or Limits(), now_s=0.0)


def trigger(due_us: int, epoch: int = 7, interval_s: int = INTERVAL_S) -> Trigger:
    return Trigger(due_us // (INTERVAL_S * S), due_us, interval_s * S, epoch)


def hear(beats: BeatKeeper, heard: Trigger, now_s: float) -> Run | Refusal:
    """While the clock is right."""
    return beats.on_trigger(heard, now_s, T0 + round(now_s * S))


def test_a_trigger_runs_its_beat() -> None:
    run = hear(keeper(), trigger(T0 + 5 * S), 5.0)
    assert run == Run(Source.TRIGGER, (T0 + 5 * S) // (5 * S), T0 + 5 * S, missed=0)


def test_the_same_beat_never_runs_twice() -> None:
    beats = keeper()
    hear(beats, trigger(T0 + 5 * S), 5.0)
    assert hear(beats, trigger(T0 + 5 * S), 5.1) is Refusal.DUPLICATE


def test_a_beat_done_before_a_restart_is_not_run_after_it() -> None:
    assert hear(keeper(done_us=T0 + 5 * S), trigger(T0 + 5 * S), 0.1) is Refusal.DUPLICATE


def test_a_hand_injected_trigger_always_runs_and_does_not_count_as_hearing_the_scheduler() -> None:
    beats = keeper()
    for now_s in (1.0, 9.0):
        assert hear(beats, Trigger(None, None, None, epoch=0), now_s) == Run(Source.INJECTED)
    assert beats.engage_at_s() == 10.0


def test_beats_that_nobody_ran_are_counted() -> None:
    run = hear(keeper(), trigger(T0 + 20 * S), 20.0)
    assert isinstance(run, Run)
    assert run.missed == 3


def test_a_lower_epoch_is_ignored_while_the_higher_one_lives() -> None:
    beats = keeper()
    hear(beats, trigger(T0 + 5 * S, epoch=9), 5.0)
    assert hear(beats, trigger(T0 + 10 * S, epoch=8), 10.0) is Refusal.OLD_EPOCH
    assert isinstance(hear(beats, trigger(T0 + 20 * S, epoch=8), 20.0), Run)


def test_two_missed_intervals_engage_the_fallback_on_the_same_grid() -> None:
    beats = keeper()
    hear(beats, trigger(T0 + 5 * S), 5.0)
    assert beats.on_time(T0 + 14_999_999, now_s=14.999999) is None
    assert not beats.engaged
    run = beats.on_time(T0 + 15 * S, now_s=15.0)
    assert beats.engaged
    assert run == Run(Source.FALLBACK, (T0 + 15 * S) // (5 * S), T0 + 15 * S, missed=1)
    assert beats.next_local_due_us(T0 + 15 * S, 15.0) == T0 + 20 * S


def test_the_first_trigger_releases_the_fallback_and_repeats_nothing() -> None:
    beats = keeper()
    beats.on_time(T0 + 10 * S, now_s=10.0)
    assert beats.engaged
    assert hear(beats, trigger(T0 + 10 * S), 10.2) is Refusal.DUPLICATE
    assert not beats.engaged
    assert beats.next_local_due_us(T0 + 11 * S, 11.0) is None


def test_with_heartbeat_fallback_a_dead_scheduler_costs_no_beat() -> None:
    beats = keeper(limits=Limits(heartbeat_fallback=True))
    beats.on_tick(7, None, now_s=1.0, now_us=T0 + 1 * S)
    assert beats.next_local_due_us(T0 + 1 * S, 1.0) == T0 + 5_100_000
    run = beats.on_time(T0 + 5_100_000, now_s=5.1)
    assert run is not None
    assert run.due_us == T0 + 5 * S
    assert run.missed == 0


def test_with_heartbeat_fallback_a_living_scheduler_is_left_to_its_work() -> None:
    beats = keeper(limits=Limits(heartbeat_fallback=True))
    beats.on_tick(7, None, now_s=4.0, now_us=T0 + 4 * S)
    assert beats.on_time(T0 + 5_100_000, now_s=5.1) is None


def test_a_pause_is_not_silence_and_its_beats_are_not_missed() -> None:
    beats = keeper()
    paused = Pacing(interval_us=5 * S, nominal_us=5 * S, paused=True)
    beats.on_tick(7, paused, now_s=1.0, now_us=T0 + 1 * S)
    assert beats.on_time(T0 + 100 * S, now_s=100.0) is None
    beats.on_tick(7, Pacing(interval_us=5 * S, nominal_us=5 * S), now_s=101.0, now_us=T0 + 101 * S)
    assert beats.engage_at_s() == 111.0
    run = hear(beats, trigger(T0 + 105 * S), 105.0)
    assert isinstance(run, Run)
    assert run.missed == 0


HELD = Pacing(interval_us=5 * S, nominal_us=5 * S, paused=True, held_until_us=T0 + 31 * S)


def test_a_hold_that_nobody_ends_ends_by_itself_and_silence_counts_from_there() -> None:
    beats = keeper()
    beats.on_tick(7, HELD, now_s=1.0, now_us=T0 + 1 * S)
    assert beats.next_local_due_us(T0 + 1 * S, 1.0) == T0 + 31 * S
    assert beats.on_time(T0 + 31 * S - 1, now_s=30.999999) is None
    assert beats.pacing.paused
    assert beats.on_time(T0 + 31 * S, now_s=31.0) is None
    assert not beats.pacing.paused
    assert beats.engage_at_s() == 41.0
    run = beats.on_time(T0 + 41 * S, now_s=41.0)
    assert isinstance(run, Run)
    assert (run.due_us, run.missed) == (T0 + 40 * S, 1), "what was due during the hold is not missed"


def test_a_hold_that_is_prolonged_ends_when_the_last_word_says() -> None:
    beats = keeper()
    beats.on_tick(7, HELD, now_s=1.0, now_us=T0 + 1 * S)
    beats.on_tick(7, replace(HELD, held_until_us=T0 + 60 * S), now_s=30.0, now_us=T0 + 30 * S)
    assert beats.on_time(T0 + 59 * S, now_s=59.0) is None
    assert beats.pacing.paused
    beats.on_tick(7, replace(HELD, held_until_us=None), now_s=59.5, now_us=T0 + 59 * S)
    assert beats.on_time(T0 + 10_000 * S, now_s=10_000.0) is None
    assert beats.pacing.paused, "now it is an operator's pause, too"


def test_a_hold_that_is_remembered_has_an_end_too() -> None:
    beats = BeatKeeper(replace(HELD, done_us=T0), Limits(), now_s=0.0)
    beats.on_time(T0 + 86_400 * S, now_s=0.0)
    assert not beats.pacing.paused
    assert beats.engage_at_s() == 10.0


def test_a_slower_pace_stretches_the_patience() -> None:
    beats = keeper()
    beats.on_tick(7, Pacing(interval_us=10 * S, nominal_us=5 * S, anchor_us=T0), now_s=1.0, now_us=T0 + 1 * S)
    assert beats.engage_at_s() == 20.0


def test_when_a_slow_down_ends_silence_is_counted_anew() -> None:
    beats = keeper()
    slow = Pacing(interval_us=20 * S, nominal_us=5 * S, anchor_us=T0)
    beats.on_tick(7, slow, now_s=1.0, now_us=T0 + 1 * S)
    hear(beats, trigger(T0 + 20 * S, interval_s=20), 20.0)
    beats.on_tick(7, Pacing(interval_us=5 * S, nominal_us=5 * S, anchor_us=T0), now_s=34.0, now_us=T0 + 34 * S)
    assert beats.engage_at_s() == 44.0
    assert beats.on_time(T0 + 35 * S, now_s=35.0) is None
    beats.on_tick(7, Pacing(interval_us=5 * S, nominal_us=5 * S, anchor_us=T0), now_s=40.0, now_us=T0 + 40 * S)
    assert beats.engage_at_s() == 44.0, "ticks alone are no triggers"


def test_what_lies_before_the_first_beat_of_a_new_plan_is_not_run_locally() -> None:
    """The schedule was configured anew, its first beat lies ahead, and then the scheduler falls silent."""
    beats = keeper()
    first_us = T0 + 8 * S
    beats.on_tick(7, Pacing(interval_us=INTERVAL_S * S, nominal_us=INTERVAL_S * S, anchor_us=first_us), 1.0, T0 + S)
    assert beats.on_time(first_us - 1, beats.engage_at_s()) is None
    assert beats.next_local_due_us(first_us - 1, beats.engage_at_s()) == first_us
    run = beats.on_time(first_us, beats.engage_at_s() + 1)
    assert run is not None
    assert run.due_us == first_us


def numbered(due_us: int, serial: int, interval_s: int = INTERVAL_S) -> Trigger:
    return Trigger(due_us // (INTERVAL_S * S), due_us, interval_s * S, 7, serial)


def test_a_trigger_that_was_lost_is_noticed_even_when_the_interval_changed_meanwhile() -> None:
    beats = keeper()
    hear(beats, numbered(T0 + 5 * S, 1), 5.0)
    run = hear(beats, numbered(T0 + 17 * S, 4, interval_s=7), 17.0)
    assert isinstance(run, Run)
    assert run.missed == 2


def test_a_trigger_that_came_after_its_beat_was_run_locally_is_not_missed() -> None:
    beats = keeper()
    hear(beats, numbered(T0 + 5 * S, 1), 5.0)
    assert beats.on_time(T0 + 15 * S, now_s=15.0) is not None
    assert hear(beats, numbered(T0 + 15 * S, 3), 15.1) is Refusal.DUPLICATE
    run = hear(beats, numbered(T0 + 20 * S, 4), 20.0)
    assert isinstance(run, Run)
    assert run.missed == 1, "the second trigger was never heard; the third was"


def test_after_a_large_step_back_it_keeps_working_without_repeating_a_number() -> None:
    beats = keeper(done_us=T0 + 3600 * S)
    first = beats.on_time(T0, now_s=10.0)
    assert first == Run(Source.FALLBACK)
    assert beats.on_time(T0 + 1 * S, now_s=11.0) is None
    assert beats.on_time(T0 + 5 * S, now_s=15.0) == Run(Source.FALLBACK)


def test_a_scheduler_that_knows_nothing_of_a_step_back_is_followed_without_numbers() -> None:
    """Its triggers are for moments that lie before what was run under the wrong clock."""
    beats = keeper(done_us=T0 + 60 * S)
    ran = []
    for second in (0, 5, 10, 40, 45, 50, 55, 60, 65, 70):
        due = trigger(T0 + second * S)
        run = hear(beats, due, second + 0.1)
        assert not isinstance(run, Run) or run.due_us in (None, due.due_us)
        assert hear(beats, due, second + 0.2) is Refusal.DUPLICATE, "emitted again, it is not run again"
        if isinstance(run, Run):
            beats.done(run)
            ran.append((second, run.due_us is not None))
    assert ran == [(0, False), (5, False), (10, False), (40, False), (45, False), (50, False), (55, False),
                   (65, True), (70, True)]  # fmt: skip


def test_under_a_clock_set_back_a_trigger_for_long_ago_or_for_what_ran_just_now_runs_nothing() -> None:
    beats = keeper()
    for second in (5, 10):
        hear(beats, trigger(T0 + second * S), second)
    for second in (0, 5, 10):
        assert beats.on_trigger(trigger(T0 + second * S), 10.1, T0 + 8 * S) is Refusal.DUPLICATE
    hear(beats, trigger(T0 + 3600 * S), 11.0)
    assert beats.on_trigger(trigger(T0 - 20 * S), 11.0, T0 + 11 * S) is Refusal.DUPLICATE


def test_what_was_heard_under_a_clock_set_back_is_not_missed_in_the_next_life() -> None:
    beats = BeatKeeper(Pacing(5 * S, 5 * S, done_us=T0 + 3600 * S, serial=1), Limits(), now_s=0.0)
    for serial in (2, 3, 4):
        run = hear(beats, numbered(T0 + 5 * serial * S, serial), 5.0 * serial)
        assert isinstance(run, Run)
        beats.done(run)
    assert (beats.pacing.serial, beats.pacing.done_us) == (4, T0 + 3600 * S)


def test_after_a_large_step_back_it_does_not_matter_how_often_it_is_asked_for_the_next_beat() -> None:
    beats = keeper(done_us=T0 + 3600 * S)
    assert beats.next_local_due_us(T0, 9.0) is None, "it waits for the scheduler"
    assert beats.on_time(T0, now_s=10.0) == Run(Source.FALLBACK)
    for waited_s in (0, 1, 4, 4.999999):
        assert beats.next_local_due_us(T0 + round(waited_s * S), 10.0 + waited_s) == T0 + 5 * S


@pytest.mark.parametrize("step_s", [-0.5, -2.0, -4.9])
def test_a_small_step_back_never_repeats_a_beat(step_s: float) -> None:
    beats = keeper()
    beats.on_time(T0 + 10 * S, now_s=10.0)
    stepped_us = T0 + 10 * S + round(step_s * S)
    assert beats.on_time(stepped_us, now_s=10.0) is None
    assert beats.next_local_due_us(stepped_us, 10.0) == T0 + 15 * S


@dataclass
class Day:
    """A consumer's life in virtual time, with everything it ran."""

    beats: BeatKeeper
    now_us: int = T0
    now_s: float = 0.0
    ran: list[Run] = field(default_factory=list)

    def take(self, outcome: Run | Refusal | None) -> None:
        if isinstance(outcome, Run):
            self.ran.append(outcome)
            self.beats.done(outcome)


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.floats(0.01, 30)),
        st.tuples(st.just("step"), st.floats(-4000, 4000)),
        st.tuples(st.just("trigger"), st.integers(-3, 1)),
        st.tuples(st.just("restart"), st.just(0)),
        st.tuples(st.just("inject"), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(EVENTS, st.booleans())
def test_whatever_happens_no_numbered_beat_runs_twice(events: list[tuple[str, float]], heartbeat: bool) -> None:
    limits = Limits(heartbeat_fallback=heartbeat)
    day = Day(keeper(limits=limits))
    for kind, value in events:
        if kind == "pass":
            day.now_us += round(value * S)
            day.now_s += value
            day.take(day.beats.on_time(day.now_us, day.now_s))
        elif kind == "step":
            day.now_us += round(value * S)
            day.take(day.beats.on_time(day.now_us, day.now_s))
        elif kind == "trigger":
            due_us = (day.now_us // (5 * S) + int(value)) * 5 * S
            day.take(day.beats.on_trigger(trigger(due_us), day.now_s, day.now_us))
        elif kind == "inject":
            day.take(day.beats.on_trigger(Trigger(None, None, None, 0), day.now_s, day.now_us))
        else:
            day.beats = BeatKeeper(day.beats.pacing, limits, day.now_s)
    numbered = [run.due_us for run in day.ran if run.due_us is not None]
    assert len(numbered) == len(set(numbered))
    assert numbered == sorted(numbered)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0.01, 2.0), min_size=20, max_size=200))
def test_without_a_scheduler_no_beat_of_the_grid_is_left_out(waits_s: list[float]) -> None:
    day = Day(keeper())
    for wait_s in waits_s:
        day.now_us += round(wait_s * S)
        day.now_s += wait_s
        day.take(day.beats.on_time(day.now_us, day.now_s))
    last_us = max((run.due_us for run in day.ran if run.due_us), default=T0)
    assert len(day.ran) + sum(run.missed for run in day.ran) == (last_us - T0) // (5 * S)
