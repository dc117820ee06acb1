"""What the schedule does about time, told in clock times. All entries here run on a day that starts at 00:00:00."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest

from kloros.errors import ScheduleRefused
from kloros.orchestration.schedule import Schedule
from kloros.orchestration.schedule_entry import Beat, Entry, EntryState
from kloros.orchestration.wishes import HOLD, Wish

S = 1_000_000
MIDNIGHT_US = 19_000 * 86_400 * S


def at(clock: str) -> int:
    """The moment of "12:00:05", or of "12:00:05.250"."""
    hours, minutes, seconds = clock.split(":")
    return MIDNIGHT_US + (int(hours) * 60 + int(minutes)) * 60 * S + round(float(seconds) * S)


def told(us: int | None) -> str | None:
    """The moment as "12:00:05"."""
    if us is None:
        return None
    seconds, rest = divmod(us - MIDNIGHT_US, S)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{clock}.{rest:06}".rstrip("0").rstrip(".") if rest else clock


def entry(name: str = "scan", interval_s: float = 60.0, **other: Any) -> Entry:
    return Entry(name=name, signal="Q_TRIGGER_SCAN", ecosystem="test", interval_us=round(interval_s * S), **other)


def emitted(beats: list[Beat]) -> list[tuple[str | None, str, int]]:
    """(due, reason, missed) of each beat."""
    return [(told(beat.due_us), beat.reason, beat.missed) for beat in beats]


def due_times(schedule: Schedule, now: str, count: int) -> list[str | None]:
    """When the next beats are due, for a scheduler that is never late."""
    dues: list[str | None] = []
    now_us = at(now)
    while len(dues) < count:
        due_us = schedule.next_due_us(now_us)
        assert due_us is not None
        now_us = max(now_us, due_us)
        dues += [told(beat.due_us) for beat in schedule.advance(now_us)]
    return dues


class TestTheGrid:
    def test_beats_lie_on_the_wall_clock_whenever_the_scheduler_started(self) -> None:
        schedule = Schedule([entry(interval_s=300, offset_us=10 * S)], at("12:03:41"))
        assert due_times(schedule, "12:03:41", 3) == ["12:05:10", "12:10:10", "12:15:10"]

    def test_nothing_is_emitted_before_it_is_due(self) -> None:
        schedule = Schedule([entry()], at("12:00:30"))
        assert schedule.advance(at("12:00:59.999999")) == []
        assert emitted(schedule.advance(at("12:01:00"))) == [("12:01:00", "due", 0)]

    def test_lateness_is_told_and_does_not_move_the_next_beat(self) -> None:
        schedule = Schedule([entry()], at("12:00:30"))
        assert schedule.advance(at("12:01:00.4"))[0].late_us == 400_000
        assert due_times(schedule, "12:01:00.4", 1) == ["12:02:00"]

    def test_beats_are_numbered_from_the_epoch(self) -> None:
        schedule = Schedule([entry(interval_s=5, offset_us=2 * S)], at("00:00:00"))
        beat = schedule.advance(at("00:00:02"))[0]
        assert beat.beat == MIDNIGHT_US // (5 * S)

    def test_an_interval_that_no_float_holds_does_not_drift_in_a_year(self) -> None:
        schedule = Schedule([entry(interval_s=0.1)], at("00:00:00"))
        schedule.advance(at("00:00:00") + 365 * 86_400 * S)
        assert due_times(schedule, "8760:00:00", 1) == ["8760:00:00.1"]

    def test_of_beats_due_together_the_higher_priority_goes_first(self) -> None:
        entries = [entry("low", priority=-1), entry("high", priority=5), entry("also_high", priority=5)]
        beats = Schedule(entries, at("12:00:30")).advance(at("12:01:00"))
        assert [beat.entry.name for beat in beats] == ["also_high", "high", "low"]

    def test_an_empty_schedule_is_never_due(self) -> None:
        assert Schedule([], at("12:00:00")).next_due_us(at("12:00:00")) is None


class TestMissedBeats:
    """The scheduler was away from 12:00:30 to 12:04:20: the beats of 12:01, 12:02, 12:03 and 12:04 could not go out."""

    @pytest.mark.parametrize(
        ("policy", "expected"),
        [
            ({"misfire": "coalesce"}, [("12:04:00", "misfire", 3)]),
            ({"misfire": "skip"}, []),
            (
                {"misfire": "all"},
                [(f"12:0{minute}:00", "misfire", 0) for minute in (1, 2, 3, 4)],
            ),
            (
                {"misfire": "all", "misfire_limit": 2},
                [("12:03:00", "misfire", 2), ("12:04:00", "misfire", 0)],
            ),
        ],
        ids=["coalesce: one run, which says three were missed", "skip: none", "all: each", "all, at most two"],
    )
    def test_policy(self, policy: dict[str, Any], expected: list[tuple[str, str, int]]) -> None:
        schedule = Schedule([entry(**policy)], at("12:00:30"))
        assert emitted(schedule.advance(at("12:04:20"))) == expected
        after = schedule.advance(at("12:05:00"))
        assert emitted(after) == [("12:05:00", "due", 4 - len(expected) - sum(missed for _, _, missed in expected))]

    @pytest.mark.parametrize("misfire", ["coalesce", "skip", "all"])
    def test_a_single_beat_late_within_the_grace_is_simply_emitted(self, misfire: str) -> None:
        schedule = Schedule([entry(misfire=misfire)], at("12:00:30"))
        assert emitted(schedule.advance(at("12:01:00.9"))) == [("12:01:00", "due", 0)]

    def test_what_was_missed_is_counted_once_and_told_once(self) -> None:
        schedule = Schedule([entry(misfire="skip")], at("12:00:30"))
        schedule.advance(at("12:04:20"))
        state = schedule.view("scan").state
        assert (state.missed, state.misfires, state.emitted) == (4, 1, 0)
        assert [beat.missed for beat in schedule.advance(at("12:05:00"))] == [4]
        assert [beat.missed for beat in schedule.advance(at("12:06:00"))] == [0]

    def test_a_century_away_costs_no_more_than_a_minute(self) -> None:
        schedule = Schedule([entry(interval_s=0.01)], at("00:00:00"))
        beats = schedule.advance(at("00:00:00") + 100 * 365 * 86_400 * S)
        assert [beat.missed for beat in beats] == [100 * 365 * 86_400 * 100 - 1]


class TestTheWallClockSteps:
    def test_ntp_takes_back_half_a_second_just_after_a_beat(self) -> None:
        schedule = Schedule([entry()], at("12:00:30"))
        schedule.advance(at("12:01:00.1"))
        assert schedule.advance(at("12:00:59.6")) == [], "the beat of 12:01 does not come again"
        assert schedule.advance(at("12:01:00")) == []
        assert due_times(schedule, "12:01:00", 1) == ["12:02:00"]

    def test_ntp_adds_half_a_second_just_before_a_beat(self) -> None:
        schedule = Schedule([entry()], at("12:00:30"))
        schedule.advance(at("12:00:59.8"))
        assert emitted(schedule.advance(at("12:01:00.3"))) == [("12:01:00", "due", 0)]

    def test_an_operator_sets_the_clock_an_hour_forwards(self) -> None:
        schedule = Schedule([entry()], at("12:00:30"))
        schedule.advance(at("12:01:00"))
        assert emitted(schedule.advance(at("13:01:30"))) == [("13:01:00", "misfire", 59)]
        assert due_times(schedule, "13:01:30", 1) == ["13:02:00"]

    def test_an_operator_sets_the_clock_an_hour_back(self) -> None:
        """The hour from 11:01 to 12:01 has been worked. It is worked again un-numbered, and then the grid goes on."""
        schedule = Schedule([entry()], at("12:00:30"))
        schedule.advance(at("12:01:00"))
        assert schedule.advance(at("11:01:00")) == []
        seen: list[Beat] = []
        now_us = at("11:01:00")
        while now_us < at("12:02:00"):
            due_us = schedule.next_due_us(now_us)
            assert due_us is not None
            assert 0 < due_us - now_us <= 60 * S, "never silent for longer than the interval"
            now_us = due_us
            seen += schedule.advance(now_us)
        assert {(beat.beat, beat.reason) for beat in seen[:-1]} == {(None, "clock")}
        assert len(seen) == 61
        assert emitted(seen[-1:]) == [("12:02:00", "due", 0)]

    def test_the_repeated_time_is_divided_evenly(self) -> None:
        """Two and a half minutes lie before the beat of 12:02: no gap is left over that a fallback would notice."""
        schedule = Schedule([entry()], at("12:00:30"))
        schedule.advance(at("12:01:00"))
        schedule.advance(at("11:59:30"))
        assert told(schedule.next_due_us(at("11:59:30"))) == "12:00:45"
        assert [beat.reason for beat in schedule.advance(at("12:00:45"))] == ["clock"]
        assert told(schedule.next_due_us(at("12:00:45"))) == "12:02:00"

    def test_back_and_forth_again_runs_nothing_twice(self) -> None:
        schedule = Schedule([entry()], at("12:00:30"))
        schedule.advance(at("12:01:00"))
        schedule.advance(at("11:00:10"))
        assert all(beat.beat is None for beat in schedule.advance(at("12:01:10")))
        assert emitted(schedule.advance(at("12:02:00"))) == [("12:02:00", "due", 0)]

    def test_a_restart_with_a_clock_that_lost_a_day_is_not_silent_for_a_day(self) -> None:
        before = Schedule([entry()], at("36:00:30"))
        before.advance(at("36:01:00"))
        schedule = Schedule([entry()], at("12:00:00"), before.states())
        assert told(schedule.next_due_us(at("12:00:00"))) == "12:01:00"
        assert [beat.reason for beat in schedule.advance(at("12:01:00"))] == ["clock"]

    def test_summer_time_changes_nothing(self) -> None:
        """Beats count UTC microseconds; a local time zone that jumps is none of their business."""
        schedule = Schedule([entry(interval_s=3600)], at("00:30:00"))
        assert due_times(schedule, "00:30:00", 3) == ["01:00:00", "02:00:00", "03:00:00"]


class TestPausesAndMaintenance:
    def test_a_resumed_entry_applies_its_misfire_policy(self) -> None:
        schedule = Schedule([entry()], at("12:00:30"))
        schedule.pause("scan")
        assert schedule.next_due_us(at("12:00:30")) is None
        assert schedule.advance(at("12:03:10")) == []
        schedule.resume("scan")
        assert emitted(schedule.advance(at("12:03:10"))) == [("12:03:00", "misfire", 2)]

    def test_the_end_of_maintenance_applies_every_misfire_policy(self) -> None:
        schedule = Schedule([entry("one"), entry("none", misfire="skip")], at("12:00:30"))
        schedule.suspend()
        assert schedule.advance(at("12:03:10")) == []
        schedule.unsuspend()
        assert [(beat.entry.name, beat.missed) for beat in schedule.advance(at("12:03:10"))] == [("one", 2)]

    def test_a_pause_within_an_interval_costs_nothing(self) -> None:
        schedule = Schedule([entry()], at("12:00:30"))
        schedule.pause("scan")
        schedule.resume("scan")
        assert due_times(schedule, "12:00:40", 1) == ["12:01:00"]

    def test_a_beat_that_was_due_before_a_paused_entry_was_retimed_is_not_forgotten(self) -> None:
        schedule = Schedule([entry()], at("12:00:30"))
        schedule.pause("scan")
        schedule.advance(at("12:03:10"))
        schedule.set_interval("scan", 600 * S, at("12:03:10"))
        schedule.resume("scan")
        assert emitted(schedule.advance(at("12:03:10"))) == [("12:03:00", "misfire", 2)]
        assert due_times(schedule, "12:03:10", 1) == ["12:13:00"]

    def test_a_paused_entry_retimed_twice_still_counts_every_beat(self) -> None:
        """Due were 12:01, 12:02, 12:03, then 12:13, then 12:14: one of them runs, four were missed."""
        schedule = Schedule([entry()], at("12:00:30"))
        schedule.pause("scan")
        schedule.set_interval("scan", 600 * S, at("12:03:10"))
        schedule.set_interval("scan", None, at("12:14:00"))
        schedule.resume("scan")
        assert emitted(schedule.advance(at("12:14:00"))) == [("12:14:00", "misfire", 4)]
        assert due_times(schedule, "12:14:00", 1) == ["12:15:00"]

    def test_a_trigger_by_hand_works_on_a_paused_entry_and_moves_nothing(self) -> None:
        schedule = Schedule([entry()], at("12:00:30"))
        schedule.pause("scan")
        beat = schedule.trigger("scan")
        assert (beat.beat, beat.due_us, beat.reason) == (None, None, "control")
        schedule.resume("scan")
        assert due_times(schedule, "12:00:40", 1) == ["12:01:00"]

    def test_no_trigger_by_hand_in_maintenance(self) -> None:
        schedule = Schedule([entry()], at("12:00:30"))
        schedule.suspend()
        with pytest.raises(ScheduleRefused, match="maintenance is on"):
            schedule.trigger("scan")


class TestOtherIntervals:
    def test_a_longer_interval_counts_from_the_last_beat(self) -> None:
        schedule = Schedule([entry()], at("12:00:30"))
        schedule.advance(at("12:01:00"))
        schedule.set_interval("scan", 100 * S, at("12:01:20"))
        assert due_times(schedule, "12:01:20", 2) == ["12:02:40", "12:04:20"]

    def test_a_shorter_interval_that_is_over_already_is_due_at_once(self) -> None:
        schedule = Schedule([entry()], at("12:00:30"))
        schedule.advance(at("12:01:00"))
        schedule.set_interval("scan", 10 * S, at("12:01:20"))
        assert due_times(schedule, "12:01:20", 2) == ["12:01:20", "12:01:30"]

    def test_what_was_set_for_a_while_runs_out_by_itself_and_lands_on_the_grid(self) -> None:
        schedule = Schedule([entry()], at("12:00:30"))
        schedule.advance(at("12:01:00"))
        schedule.set_interval("scan", 90 * S, at("12:01:00"), ttl_us=100 * S)
        assert due_times(schedule, "12:01:00", 4) == ["12:02:30", "12:04:00", "12:05:00", "12:06:00"]
        assert schedule.view("scan").state.override_us is None

    def test_the_end_of_what_was_set_is_a_moment_to_wake_up_for(self) -> None:
        schedule = Schedule([entry()], at("12:00:30"))
        schedule.advance(at("12:01:00"))
        schedule.set_interval("scan", 600 * S, at("12:01:00"), ttl_us=100 * S)
        assert told(schedule.next_due_us(at("12:01:00"))) == "12:02:40"
        assert due_times(schedule, "12:01:00", 2) == ["12:03:00", "12:04:00"]

    def test_what_ran_out_while_the_scheduler_was_away_ran_out_then_and_not_on_its_return(self) -> None:
        schedule = Schedule([entry()], at("12:00:30"))
        schedule.advance(at("12:01:00"))
        schedule.set_interval("scan", 600 * S, at("12:01:00"), ttl_us=60 * S)
        assert emitted(schedule.advance(at("12:10:30"))) == [("12:10:00", "misfire", 8)]

    def test_half_the_pace_is_twice_the_interval(self) -> None:
        schedule = Schedule([entry()], at("12:00:30"))
        schedule.advance(at("12:01:00"))
        schedule.set_pace("scan", 0.5, at("12:01:00"))
        assert due_times(schedule, "12:01:00", 2) == ["12:03:00", "12:05:00"]

    def test_paces_are_set_and_do_not_compound(self) -> None:
        schedule = Schedule([entry()], at("12:00:30"))
        for _ in range(10):
            schedule.set_pace("scan", 0.5, at("12:00:40"))
        assert schedule.view("scan").state.timeline.interval_us == 120 * S

    def test_a_pace_stays_within_the_bounds(self) -> None:
        schedule = Schedule([entry(max_interval_us=90 * S, min_interval_us=50 * S)], at("12:00:30"))
        schedule.set_pace("scan", 0.01, at("12:00:40"))
        assert schedule.view("scan").state.timeline.interval_us == 90 * S
        schedule.set_pace("scan", 50.0, at("12:00:40"))
        assert schedule.view("scan").state.timeline.interval_us == 50 * S

    def test_an_interval_out_of_bounds_is_refused(self) -> None:
        schedule = Schedule([entry(max_interval_us=90 * S)], at("12:00:30"))
        with pytest.raises(ScheduleRefused, match=r"100 s is outside of its bounds, 1e-06 s to 90 s"):
            schedule.set_interval("scan", 100 * S, at("12:00:40"))

    def test_an_entry_that_is_not_adaptive_keeps_its_pace(self) -> None:
        schedule = Schedule([entry(adaptive=False)], at("12:00:30"))
        with pytest.raises(ScheduleRefused, match="adaptive = false"):
            schedule.set_pace("scan", 0.5, at("12:00:40"))

    def test_a_pace_and_an_interval_that_run_out_at_different_times(self) -> None:
        schedule = Schedule([entry()], at("12:00:30"))
        schedule.set_interval("scan", 120 * S, at("12:00:30"), ttl_us=1000 * S)
        schedule.set_pace("scan", 0.5, at("12:00:30"), ttl_us=100 * S)
        assert schedule.view("scan").state.timeline.interval_us == 240 * S
        schedule.advance(at("12:02:10"))
        assert schedule.view("scan").state.timeline.interval_us == 120 * S
        schedule.advance(at("12:17:10"))
        assert schedule.view("scan").state.timeline.interval_us == 60 * S


class TestReloadAndRestart:
    def test_a_new_interval_keeps_the_memory_and_moves_to_the_new_grid(self) -> None:
        schedule = Schedule([entry()], at("12:00:30"))
        schedule.advance(at("12:01:00"))
        report = schedule.reload([entry(interval_s=50), entry("new")], at("12:01:05"))
        assert (report.added, report.removed, report.changed) == (("new",), (), ("scan",))
        state = schedule.view("scan").state
        assert (told(state.last_due_us), state.emitted) == ("12:01:00", 1)
        now_us, dues = at("12:01:05"), [at("12:01:00")]
        while now_us < at("12:10:00"):
            now_us = schedule.next_due_us(now_us) or 0
            dues += [beat.due_us or 0 for beat in schedule.advance(now_us) if beat.entry.name == "scan"]
        gaps = [later - earlier for earlier, later in pairwise(dues)]
        assert 50 * S <= min(gaps) <= max(gaps) <= 60 * S
        assert dues[-1] % (50 * S) == 0

    def test_an_entry_that_did_not_change_is_left_alone(self) -> None:
        schedule = Schedule([entry()], at("12:00:30"))
        schedule.pause("scan")
        assert schedule.reload([entry()], at("12:00:40")).changed == ()
        assert schedule.view("scan").state.paused

    def test_an_entry_that_is_no_longer_adaptive_forgets_what_was_wished(self) -> None:
        schedule = Schedule([entry()], at("12:00:30"))
        schedule.set_pace("scan", 0.5, at("12:00:30"))
        schedule.wish("scan", "brake", Wish(HOLD, at("13:00:00")), at("12:00:40"))
        schedule.reload([entry(adaptive=False)], at("12:00:50"))
        assert schedule.view("scan").state.wishes == {}
        assert due_times(schedule, "12:00:50", 2) == ["12:01:00", "12:02:00"]
        assert [change.kind for change in schedule.view("scan").state.changes][-3:] == ["held", "released", "planned"]

    def test_what_was_set_keeps_within_new_bounds(self) -> None:
        schedule = Schedule([entry()], at("12:00:30"))
        schedule.set_interval("scan", 3600 * S, at("12:00:30"))
        schedule.reload([entry(max_interval_us=90 * S)], at("12:00:50"))
        assert schedule.view("scan").state.timeline.interval_us == 90 * S
        schedule.reload([entry()], at("12:00:50"))
        assert schedule.view("scan").state.timeline.interval_us == 3600 * S

    def test_an_entry_taken_out_and_put_back_runs_no_beat_again(self) -> None:
        schedule = Schedule([entry(), entry("other")], at("12:00:30"))
        schedule.advance(at("12:01:00"))
        schedule.reload([entry("other")], at("12:01:00"))
        schedule.reload([entry(), entry("other")], at("12:01:00"))
        assert schedule.advance(at("12:01:00")) == []
        assert schedule.view("scan").state.last_due_us == at("12:01:00")

    def test_an_entry_put_back_after_the_clock_went_back_repeats_no_beat_and_is_not_silent(self) -> None:
        schedule = Schedule([entry(), entry("other")], at("12:00:30"))
        schedule.advance(at("12:01:00"))
        schedule.reload([entry("other")], at("12:01:00"))
        schedule.advance(at("11:00:30"))
        schedule.reload([entry()], at("11:00:30"))
        assert [(beat.beat, beat.reason) for beat in schedule.advance(at("11:01:31"))] == [(None, "clock")]
        beats = [beat for minute in range(2, 61) for beat in schedule.advance(at(f"11:{minute}:30"))]
        assert {beat.beat for beat in beats} == {None}
        assert emitted(schedule.advance(at("12:02:00"))) == [("12:02:00", "due", 0)]

    def test_an_entry_put_back_with_another_interval_repeats_no_moment(self) -> None:
        schedule = Schedule([entry(), entry("other")], at("12:00:30"))
        schedule.advance(at("12:01:00"))
        schedule.reload([entry("other")], at("12:01:00"))
        schedule.reload([entry(interval_s=50)], at("12:01:00"))
        schedule.set_interval("scan", 10 * S, at("12:01:00"))
        assert due_times(schedule, "12:01:00", 1) == ["12:01:10"]

    def test_a_restart_remembers_pauses_paces_counters_and_beats(self) -> None:
        before = Schedule([entry(), entry("calm")], at("12:00:30"))
        before.advance(at("12:01:00"))
        before.pause("calm")
        before.set_pace("scan", 0.5, at("12:01:00"), ttl_us=3600 * S)
        on_disk = msgspec.json.encode(before.states())
        remembered = msgspec.json.decode(on_disk, type=dict[str, EntryState])
        after = Schedule([entry(), entry("calm")], at("12:05:30"), remembered)
        assert after.view("calm").state.paused
        assert emitted(after.advance(at("12:05:30"))) == [("12:05:00", "misfire", 1)]
        assert due_times(after, "12:05:30", 1) == ["12:07:00"]

    def test_only_what_changed_has_to_be_written_down(self) -> None:
        schedule = Schedule([entry(), entry("slow", interval_s=600)], at("12:00:30"))
        assert set(schedule.take_changes()) == {"scan", "slow"}
        schedule.advance(at("12:01:00"))
        assert set(schedule.take_changes()) == {"scan"}
        assert schedule.take_changes() == {}

    def test_an_unknown_entry_is_refused_with_a_suggestion(self) -> None:
        schedule = Schedule([entry("introspection_scan")], at("12:00:30"))
        with pytest.raises(ScheduleRefused, match=r"no such entry; did you mean introspection_scan\?"):
            schedule.pause("introspecton_scan")
