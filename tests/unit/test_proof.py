"""Each planted lie is found, by name: a beat removed, run twice, run without being due, emitted and never run."""

from __future__ import annotations

import pytest

from kloros.orchestration.proof import Counterexample, Dues, Run, Window, judge_consumer, judge_schedule
from kloros.orchestration.schedule import Schedule
from kloros.orchestration.schedule_entry import Change, Entry, Skipped

S = 1_000_000
START_US = 1_700_000_000 * S
SCAN = Entry(name="scan", signal="Q_TRIGGER_SCAN", ecosystem="test", interval_us=10 * S)


class Record:
    """An hour of one entry, with a pause, a change of interval and some time away in it, as it was."""

    def __init__(self) -> None:
        self.schedule = Schedule([SCAN], START_US)
        self.now_us = START_US
        self.emitted: dict[int, int] = {}
        self.runs: list[Run] = []
        self.run(600)
        self.schedule.pause("scan")
        self.run(100)
        self.schedule.resume("scan")
        self.run(300)
        self.schedule.set_interval("scan", 7 * S, self.now_us, ttl_us=600 * S)
        self.run(1000)
        self.now_us += 60 * S  # nobody looked
        self.run(600)
        state = self.schedule.view("scan").state
        self.changes: list[Change] = state.changes
        self.skips: list[Skipped] = state.skips
        self.window = Window(START_US, state.cursor_us)

    def run(self, seconds: int) -> None:
        end_us = self.now_us + seconds * S
        while (due_us := self.schedule.next_due_us(self.now_us)) is not None and due_us <= end_us:
            self.now_us = max(due_us, self.now_us)
            for beat in self.schedule.advance(self.now_us):
                assert beat.due_us is not None
                self.emitted[beat.due_us] = beat.due_us
                self.runs.append(Run(beat.due_us, "trigger"))
        self.now_us = end_us

    def judge(self) -> list[Counterexample]:
        dues = Dues(self.changes)
        tally, wrong = judge_schedule("scan", dues, self.emitted, self.skips, self.window)
        consumer, more = judge_consumer(
            "scan", "scanner", dues, self.emitted, self.runs, self.window, self.window.until_us - 20 * S
        )
        self.tally, self.consumer = tally, consumer
        return wrong + more


@pytest.fixture
def record() -> Record:
    return Record()


def test_the_truth_is_green(record: Record) -> None:
    assert record.judge() == []
    assert record.tally.due == record.tally.emitted + sum(record.tally.skipped.values()) > 200
    assert set(record.tally.skipped) == {"paused", "late"}
    assert record.consumer.run == record.tally.emitted


@pytest.mark.parametrize("index", [5, 70, 150, -8])
def test_a_beat_removed_from_the_ledger_has_vanished(record: Record, index: int) -> None:
    due_us = sorted(record.emitted)[index]
    del record.emitted[due_us]
    assert [(each.kind, each.due_us) for each in record.judge()] == [("vanished", due_us)]


def test_a_beat_run_twice(record: Record) -> None:
    due_us = sorted(record.emitted)[80]
    record.runs.append(Run(due_us, "fallback"))
    assert [(each.kind, each.due_us, each.daemon) for each in record.judge()] == [("run twice", due_us, "scanner")]


@pytest.mark.parametrize("source", ["trigger", "fallback"])
def test_a_beat_run_without_being_due(record: Record, source: str) -> None:
    due_us = sorted(record.emitted)[80] + 3 * S
    record.runs.append(Run(due_us, source))
    assert [(each.kind, each.due_us) for each in record.judge()] == [("not due", due_us)]


def test_a_beat_emitted_without_being_due(record: Record) -> None:
    due_us = sorted(record.emitted)[80] + 3 * S
    record.emitted[due_us] = due_us
    record.runs.append(Run(due_us, "trigger"))
    assert {(each.kind, each.due_us) for each in record.judge()} == {("not due", due_us)}


def test_a_beat_emitted_and_never_run(record: Record) -> None:
    due_us = sorted(record.emitted)[80]
    record.runs = [run for run in record.runs if run.due_us != due_us]
    assert [(each.kind, each.due_us) for each in record.judge()] == [("never run", due_us)]


def test_a_beat_that_its_consumer_reports_as_missed_is_lost_not_hidden(record: Record) -> None:
    dues_us = sorted(record.emitted)
    lost, following = dues_us[80], dues_us[81]
    record.runs = [run for run in record.runs if run.due_us not in (lost, following)]
    record.runs.append(Run(following, "trigger", missed=1))
    assert record.judge() == []
    assert record.consumer.lost == 1


def test_a_consumer_cannot_hide_more_beats_than_it_owns_up_to(record: Record) -> None:
    dues_us = sorted(record.emitted)
    record.runs = [run for run in record.runs if run.due_us not in dues_us[80:84]]
    record.runs.append(Run(dues_us[83], "trigger", missed=1))
    assert [each.due_us for each in record.judge()] == dues_us[81:83]


def test_a_beat_skipped_while_its_consumer_was_busy_is_told_as_such(record: Record) -> None:
    due_us = sorted(record.emitted)[80]
    record.runs = [run for run in record.runs if run.due_us != due_us]
    record.runs[79] = Run(record.runs[79].due_us, "trigger", overlapped_us=(due_us,))
    assert record.judge() == []
    assert record.consumer.overlapped == 1


def test_a_skip_that_claims_more_than_was_due(record: Record) -> None:
    skip = record.skips[0]
    record.skips[0] = Skipped(skip.first_us, skip.last_us, skip.count + 1, skip.reason, skip.at_us)
    assert [each.kind for each in record.judge()] == ["miscounted"]


def test_a_beat_both_emitted_and_skipped(record: Record) -> None:
    due_us = record.skips[0].first_us
    record.emitted[due_us] = due_us
    record.runs.append(Run(due_us, "trigger"))
    assert [(each.kind, each.due_us) for each in record.judge()] == [("settled twice", due_us)]


def test_the_last_beats_may_still_be_under_way(record: Record) -> None:
    last_us = max(record.emitted)
    record.runs = [run for run in record.runs if run.due_us != last_us]
    assert record.judge() == []
    assert record.consumer.open == 1


def test_a_beat_is_not_under_way_any_more_once_two_later_ones_have_been_run(record: Record) -> None:
    *_, lost_us, _, other_us = sorted(record.emitted)
    record.window = Window(START_US, other_us - 1)  # so near its end that it might be under way
    record.runs = [run for run in record.runs if run.due_us not in (lost_us, other_us)]
    assert record.judge() == []
    assert record.consumer.open == 1
    record.runs.append(Run(other_us, "trigger"))
    assert [(each.kind, each.due_us) for each in record.judge()] == [("never run", lost_us)]


def test_a_change_of_plan_that_passes_over_a_due_moment_is_found(record: Record) -> None:
    """The scheduler says how much of a timeline it had settled; what had come by then must be among it."""
    number = next(n for n, change in enumerate(record.changes) if change.kind == "planned" and change.settled > 3)
    change = record.changes[number]
    settled = change.settled - 1
    record.changes[number] = Change(
        change.at_us, "planned", change.timeline, change.nominal_us, change.offset_us, settled
    )
    assert {each.kind for each in record.judge()} >= {"passed over"}
