"""A right migration is GO, one with a missed cycle, with drift or with duplicates is NO-GO and says which beats."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from kloros.cli.app import call
from kloros.cli.comparing.recorder import OldTimer
from kloros.cli.comparing.verdict import Cost, Cycle, Trial, judge
from kloros.cli.units import moment
from kloros.clock import VirtualClock
from kloros.orchestration.schedule_config import load_schedule
from kloros.orchestration.schedule_entry import Entry
from kloros.orchestration.simulate import simulate

S = 1_000_000
START_US = 1_700_000_000 * S
ENTRIES = load_schedule(Path(__file__).parents[2] / "config" / "scheduler_config.toml").entries


def old_timer_us(clock: VirtualClock, interval_s: float, span_s: float) -> list[int]:
    """The old loop, each of whose turns takes a little longer than it sleeps."""
    chance, timer = random.Random(1), OldTimer(clock, interval_s)
    end_s = clock.monotonic_s() + span_s
    while clock.monotonic_s() < end_s:
        clock.advance(max(0.0, timer.next_look_s - clock.monotonic_s()) + chance.uniform(0.0002, 0.01))
        timer.look()
    return timer.fired_us


def trial_of(entry: Entry, beats: int = 60) -> Trial:
    """The entry's beats in virtual time, a little late each, beside its old timer."""
    chance = random.Random(entry.name)
    span_s = beats * entry.interval_us / S
    played = [beat for beat in simulate(ENTRIES, START_US, span_s / 3600) if beat.entry.name == entry.name]
    cycles = [Cycle(beat.due_us, (beat.due_us or 0) + chance.randint(200, 9_000), "trigger", "ok") for beat in played]
    clock = VirtualClock(START_US)
    old_us = old_timer_us(clock, entry.interval_us / S, span_s) if entry.interval_us <= 60 * S else []
    to_us = START_US + round(span_s * S)
    costs = [Cost(START_US, 1.0, 30 << 20), Cost(to_us, 1.0 + span_s * 0.002, 40 << 20)]
    return Trial(
        f"{entry.name}_daemon",
        entry.name,
        entry.interval_us,
        entry.offset_us,
        START_US,
        to_us,
        old_us,
        [],
        cycles,
        costs,
    )


@pytest.fixture
def trial() -> Trial:
    return trial_of(ENTRIES[0])


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_right_migration_of_each_of_them_is_go(entry: Entry) -> None:
    verdict = judge(trial_of(entry))
    assert (verdict.word, verdict.rows) == ("GO", [])
    assert verdict.new.run == 60
    assert verdict.new.expected >= 59, "one that was due just now may be on its way"
    assert verdict.new.late_p99_ms <= 9.0
    assert verdict.cpu_percent == 0.2
    assert "switch" in verdict.sentence


def test_the_old_timer_drifts_and_that_is_shown(trial: Trial) -> None:
    old = judge(trial).old
    assert old.drift_ms > 100
    assert old.missed >= 0


def test_a_missed_cycle_is_no_go_and_named(trial: Trial) -> None:
    gone = trial.cycles.pop(30)
    verdict = judge(trial)
    assert verdict.word == "NO-GO"
    assert [(row.kind, row.due_us) for row in verdict.rows] == [("missed", gone.due_us)]
    assert "1 missed" in verdict.sentence


def test_drift_is_no_go(trial: Trial) -> None:
    trial.cycles = [
        Cycle(cycle.due_us, cycle.started_us + number * 3_000, "trigger", "ok")
        for number, cycle in enumerate(trial.cycles)
    ]
    verdict = judge(trial)
    assert verdict.word == "NO-GO"
    assert [row.kind for row in verdict.rows] == ["drift"]
    assert verdict.new.drift_ms == pytest.approx(177, abs=10)


def test_noise_is_not_taken_for_drift() -> None:
    for seed in range(200):
        chance = random.Random(seed)
        trial = trial_of(ENTRIES[0], beats=12)
        trial.cycles = [
            Cycle(cycle.due_us, (cycle.due_us or 0) + chance.randint(0, 60_000), "trigger", "ok")
            for cycle in trial.cycles
        ]
        assert [row.kind for row in judge(trial).rows if row.kind == "drift"] == [], f"seed {seed}"


def test_duplicates_are_no_go_and_named(trial: Trial) -> None:
    again = trial.cycles[10]
    trial.cycles.append(Cycle(again.due_us, again.started_us + S, "fallback", "ok"))
    verdict = judge(trial)
    assert [(row.kind, row.due_us) for row in verdict.rows] == [("run twice", again.due_us)]
    assert verdict.new.duplicates == 1


def test_failed_cycles_are_no_go(trial: Trial) -> None:
    cycle = trial.cycles[10]
    trial.cycles[10] = Cycle(cycle.due_us, cycle.started_us, "trigger", "failed")
    assert [row.kind for row in judge(trial).rows] == ["failed"]


def test_beats_that_come_late_are_no_go_when_the_old_timer_was_better(trial: Trial) -> None:
    trial.cycles = [Cycle(c.due_us, c.started_us + 2 * S, "trigger", "ok") for c in trial.cycles]
    assert {row.kind for row in judge(trial).rows} == {"late"}


def test_a_whole_interval_late_is_no_go_however_late_the_old_timer_was(trial: Trial) -> None:
    trial.old_us = [trial.old_us[0] + 5 * number * trial.interval_us for number in range(8)]
    trial.cycles[30] = Cycle(trial.cycles[30].due_us, trial.cycles[30].started_us + trial.interval_us, "trigger", "ok")
    assert [row.kind for row in judge(trial).rows if row.kind != "drift"] == ["late"]


def test_a_beat_told_as_overlapped_is_not_missed(trial: Trial) -> None:
    gone = trial.cycles.pop(30)
    before = trial.cycles[29]
    trial.cycles[29] = Cycle(before.due_us, before.started_us, "trigger", "ok", (gone.due_us or 0,))
    verdict = judge(trial)
    assert (verdict.word, verdict.new.skipped, verdict.new.missed) == ("GO", 1, 0)


def test_the_last_beat_may_still_be_worked_on_and_the_one_before_it_may_not(trial: Trial) -> None:
    last, before = trial.cycles.pop(), trial.cycles[-1]
    trial.to_us = (last.due_us or 0) + trial.interval_us // 2
    assert judge(trial).word == "GO"
    trial.cycles.remove(before)
    assert [(row.kind, row.due_us) for row in judge(trial).rows] == [("missed", before.due_us)]


def test_while_the_pace_was_changed_beats_are_compared_with_their_triggers(trial: Trial) -> None:
    kept = trial.cycles[::2]
    trial.cycles, trial.was_paced = kept, True
    trial.triggers_us = [cycle.due_us or 0 for cycle in kept]
    assert judge(trial).word == "GO"


def test_two_beats_prove_nothing() -> None:
    assert judge(trial_of(ENTRIES[0], beats=2)).word == "TOO EARLY"


def miss(cycles: list[Cycle]) -> list[int | None]:
    return [cycles.pop(30).due_us]


def drift(cycles: list[Cycle]) -> list[int | None]:
    cycles[:] = [
        Cycle(cycle.due_us, cycle.started_us + number * 3_000, "trigger", "ok") for number, cycle in enumerate(cycles)
    ]
    return [None]


def run_twice(cycles: list[Cycle]) -> list[int | None]:
    again = [Cycle(cycles[n].due_us, cycles[n].started_us + S, "fallback", "ok") for n in (10, 40)]
    cycles += again
    return [cycle.due_us for cycle in again]


@pytest.mark.parametrize(("plant", "kind"), [(miss, "missed"), (drift, "drift"), (run_twice, "run twice")])
def test_the_report_of_a_bad_record_says_no_go_with_its_rows_and_of_a_right_one_go(
    plant: Callable[[list[Cycle]], list[int | None]], kind: str,
    trial: Trial, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    record = tmp_path / "record.json"
    record.write_bytes(msgspec.json.encode(trial))
    assert call(["ab", "report", "introspection", "--file", str(record)]) == 0
    assert "\nGO: switch introspection_scan_daemon: 60 beats ran, each once" in capsys.readouterr().out
    named = plant(trial.cycles)
    record.write_bytes(msgspec.json.encode(trial))
    assert call(["ab", "report", "introspection", "--file", str(record)]) == 1
    out = capsys.readouterr().out
    assert "\nNO-GO: " in out
    rows = [line.strip() for line in out.splitlines() if line.startswith(f"  {kind}: ")]
    assert len(rows) == len(named)
    for row, due_us in zip(rows, named, strict=True):
        assert due_us is None or row.startswith(f"{kind}: {moment(due_us / 1e6)}: ")
