"""What affect makes of the suite's own messages."""

from __future__ import annotations

from typing import Any

import pytest

from kloros.affect.suite_watch import MAX_DAEMONS, SuiteWatch
from kloros.chembus.envelope import Message
from kloros.chembus.facts import CycleReportFacts, DropFacts, Facts, GapFacts, HeartbeatFacts

WINDOW_S = 600.0


class Suite:
    """A watch, and a clock."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.watch = SuiteWatch(WINDOW_S, self.now_s)

    def say(self, signal: str, facts: Facts, pub: str = "x@1") -> None:
        self.watch.hear(
            Message(signal=signal, ecosystem="tests", facts=facts, ts=0.0, id="1", pub=pub, seq=1), self.now_s
        )

    def cycle(self, outcome: str = "ok", error: str | None = None, daemon: str = "x_daemon", **more: Any) -> None:
        facts: Any = {"source": "trigger", "outcome": outcome, "started_ts": 1.0, "duration_s": 0.1, "error": error}
        self.say("Q_CYCLE_REPORT", CycleReportFacts(daemon=daemon, schedule="x", **facts, **more))
        self.now_s += 10

    def heart(self, pub: str, mode: str = "normal", zooid: str = "x_daemon") -> None:
        facts = HeartbeatFacts(zooid=zooid, niche="x", uptime_s=1.0, processed_count=0, mode=mode)
        self.say("HEARTBEAT", facts, pub)
        self.now_s += 10

    def value(self, name: str) -> float | None:
        reading = self.watch.readings(self.now_s).get(name)
        return None if reading is None else reading.value

    def where(self, name: str) -> str:
        return self.watch.readings(self.now_s)[name].where


@pytest.fixture
def suite() -> Suite:
    return Suite()


def test_nothing_heard_is_nothing_claimed(suite: Suite) -> None:
    readings = suite.watch.readings(suite.now_s)
    assert {name: reading.value for name, reading in readings.items()} == {
        "lost_per_min": 0.0, "tick_silent_s": 0.0, "cycles": 0.0,
    }  # fmt: skip


def test_the_same_error_in_a_row_counts_whatever_its_numbers_and_a_good_cycle_ends_it(suite: Suite) -> None:
    for attempt in range(4):
        suite.cycle("failed", f"OSError: no room on 0x{attempt}f after {attempt} ms")
    assert suite.value("repeated_error") == 4
    assert suite.where("repeated_error") == "x_daemon: OSError: no room on 0x3f after 3 ms"
    suite.cycle("failed", "ValueError: something else")
    assert suite.value("repeated_error") == 1
    suite.cycle()
    assert suite.value("repeated_error") == 0


def test_cycles_that_fail_now_and_then_are_a_share_from_three_on(suite: Suite) -> None:
    for outcome in ("ok", "failed", "ok", "failed"):
        suite.cycle(outcome, "e")
    assert suite.value("failed") == 0
    suite.cycle("hung", "e")
    assert suite.value("failed") == 60
    assert suite.where("failed") == "x_daemon: 3 of 5"
    for _ in range(10):
        suite.cycle()
    assert suite.value("failed") == 0
    assert suite.value("cycles") == 12


def test_the_worst_daemon_counts_however_rarely_it_works(suite: Suite) -> None:
    for _ in range(3):
        suite.cycle("failed", "e", daemon="rare_daemon")
        for _ in range(10):
            suite.cycle(daemon="busy_daemon")
    assert suite.value("failed") == 100
    assert suite.where("failed").startswith("rare_daemon")


def test_overruns_are_overwork_and_no_failures(suite: Suite) -> None:
    for _ in range(5):
        suite.cycle("over_budget")
    assert (suite.value("over_budget"), suite.value("failed"), suite.value("repeated_error")) == (100, 0, 0)


def test_a_daemon_that_dies_again_and_again_is_counted_and_one_that_was_told_to_stop_is_not(suite: Suite) -> None:
    for run in range(4):
        suite.heart(f"x@{run}")
        suite.heart(f"x@{run}")
    assert suite.value("restarts") == 3
    assert suite.where("restarts") == "x_daemon"
    other = Suite()
    for run in range(4):
        other.heart(f"x@{run}")
        other.heart(f"x@{run}", mode="stopped")
    assert other.value("restarts") == 0


def test_two_processes_of_one_name_are_no_restarts(suite: Suite) -> None:
    for _ in range(20):
        suite.heart("x@1")
        suite.heart("x@2")
    assert suite.value("restarts") == 1


def test_restarts_of_long_ago_are_forgotten(suite: Suite) -> None:
    for run in range(4):
        suite.heart(f"x@{run}")
    suite.now_s += WINDOW_S
    suite.heart("x@3")
    assert suite.value("restarts") == 0


def test_a_daemon_that_is_gone_troubles_nobody(suite: Suite) -> None:
    for _ in range(5):
        suite.cycle("failed", "e", backlog=70)
    assert suite.value("backlog") == 70
    suite.now_s += WINDOW_S + 1
    assert suite.value("failed") is None
    assert suite.value("backlog") is None


def test_losses_of_the_last_minute(suite: Suite) -> None:
    suite.say("BUS_GAP", GapFacts(observer="o", signal="X", pub="p", missing=7))
    suite.now_s += 30
    suite.say("BUS_DROP", DropFacts(observer="o", signal="X", dropped=3))
    suite.watch.lose(0, suite.now_s)
    assert suite.value("lost_per_min") == 10
    suite.now_s += 31
    assert suite.value("lost_per_min") == 3


def test_delays_are_the_worst_but_one_in_a_hundred(suite: Suite) -> None:
    for delay_ms in range(1, 101):
        suite.watch.tick(delay_ms / 1e3, suite.now_s)
    assert suite.value("delay_ms") == pytest.approx(99)
    suite.watch.tick(-5.0, suite.now_s)  # a clock that was stepped has not made it early
    assert suite.value("delay_ms") == pytest.approx(99)


def test_a_clock_step_is_no_delay_and_maintenance_no_silence(suite: Suite) -> None:
    suite.watch.tick(3600.0, suite.now_s)
    suite.now_s += 500
    suite.watch.begin_anew(suite.now_s)
    assert suite.value("delay_ms") is None
    assert suite.value("tick_silent_s") == 0


def test_more_daemons_than_can_be_known_harm_nobody(suite: Suite) -> None:
    for number in range(MAX_DAEMONS + 50):
        suite.heart("x@1", zooid=f"{number}_daemon")
        suite.now_s -= 10
    assert suite.value("restarts") == 0
