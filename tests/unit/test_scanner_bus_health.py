"""The bus's own health, from the signals that pass."""

from __future__ import annotations

from typing import Any

import pytest

from kloros.chembus import facts
from kloros.chembus.envelope import Message
from kloros.consumers.introspection.findings import Symptom
from kloros.consumers.introspection.scanners.base import Now
from kloros.consumers.introspection.scanners.bus_health import MAX_DAEMONS, BusHealthScanner, BusHealthSettings


class Listener:
    """A scanner and the time that passes."""

    def __init__(self, recalled: str | None = None, start_s: float = 1000.0) -> None:
        self.scanner = BusHealthScanner(BusHealthSettings())
        if recalled is not None:
            self.scanner.recall(recalled)
        self.now_s = start_s

    @property
    def now(self) -> Now:
        return Now(int(self.now_s * 1e6), self.now_s)

    def hear(self, signal: str, told: facts.Facts) -> None:
        self.scanner.hear(message(signal, told), self.now)

    def beat(self, zooid: str, mode: str = "normal") -> None:
        self.hear("HEARTBEAT", facts.HeartbeatFacts(zooid=zooid, niche="n", uptime_s=1, processed_count=0, mode=mode))

    def report(self, outcome: Any, zooid: str = "worker") -> None:
        self.hear(
            "Q_CYCLE_REPORT",
            facts.CycleReportFacts(
                daemon=zooid,
                schedule="s",
                source="trigger",
                outcome=outcome,
                started_ts=1.0,
                duration_s=2.0,
                error="boom",
            ),
        )

    def live(self, *zooids: str, seconds: int) -> None:
        for _ in range(0, seconds, 10):
            self.now_s += 10
            for zooid in zooids:
                self.beat(zooid)

    def scan(self) -> list[Symptom]:
        return self.scanner.scan(self.now)

    def found(self) -> list[tuple[str, str]]:
        return [(symptom.gap_type, symptom.gap_name) for symptom in self.scan() if not symptom.sustains]


def message(signal: str, told: facts.Facts) -> Message:
    return Message(signal=signal, ecosystem="tests", facts=told, ts=1.0)


def test_a_healthy_bus_is_quiet() -> None:
    listener = Listener()
    assert listener.found() == []
    listener.live("a", "b", seconds=600)
    listener.report("ok")
    assert listener.found() == []


def test_a_daemon_that_was_heard_and_is_not_any_more_is_silent() -> None:
    listener = Listener()
    listener.live("a", "b", seconds=20)
    listener.live("a", seconds=30)
    assert listener.found() == []
    listener.live("a", seconds=10)
    assert listener.found() == [("daemon_silent", "b")]
    listener.beat("b")
    assert listener.found() == []


def test_a_daemon_that_stopped_in_order_is_not_missed() -> None:
    listener = Listener()
    listener.live("a", "b", seconds=20)
    listener.beat("b", mode="stopped")
    listener.live("a", seconds=300)
    assert listener.found() == []


def test_while_the_bus_is_away_nobody_is_silent_and_all_get_their_time_anew() -> None:
    listener = Listener()
    listener.live("a", "b", seconds=20)
    listener.now_s += 120
    assert listener.found() == [("bus_silent", "chembus")]
    listener.live("a", seconds=10)
    assert listener.found() == []
    listener.live("a", "b", seconds=30)
    assert listener.found() == []


def test_a_bus_on_which_nothing_was_ever_heard_is_silent_too() -> None:
    listener = Listener()
    assert listener.found() == []
    listener.now_s += 31
    assert listener.found() == [("bus_silent", "chembus")]


@pytest.mark.parametrize(
    ("outcome", "gap", "enough"), [("failed", "cycles_failing", 2), ("over_budget", "cycles_slow", 3)]
)
def test_cycles_that_go_wrong_in_a_row_are_found_until_one_goes_well(outcome: str, gap: str, enough: int) -> None:
    listener = Listener()
    for _ in range(enough - 1):
        listener.report(outcome)
        assert listener.found() == []
    listener.report(outcome)
    assert listener.found() == [(gap, "worker")]
    listener.report("ok")
    assert listener.scan() == []


def test_losses_are_events_summed_between_two_scans() -> None:
    listener = Listener()
    for missing in (3, 4):
        listener.hear("BUS_GAP", facts.GapFacts(observer="a", signal="X", pub="p", missing=missing))
    listener.hear("BUS_DROP", facts.DropFacts(observer="a", signal="X", dropped=5000))
    gap, drop = listener.scan()
    assert (gap.gap_type, gap.gap_name, gap.occurrences) == ("bus_gap", "a: X", 7)
    assert (drop.gap_type, drop.occurrences) == ("bus_drop", 5000)
    assert drop.severity > gap.severity
    assert listener.scan() == []


def test_a_fallback_lasts_until_released() -> None:
    listener = Listener()
    listener.hear("FALLBACK_ENGAGED", facts.FallbackFacts(daemon="a", schedule="s"))
    assert listener.found() == [("fallback_engaged", "a")]
    listener.beat("a", mode="fallback")
    assert listener.found() == [("fallback_engaged", "a")]
    listener.hear("FALLBACK_RELEASED", facts.FallbackFacts(daemon="a", schedule="s"))
    assert listener.found() == []


def test_a_fallback_that_began_before_we_listened_is_seen_in_the_heartbeat() -> None:
    listener = Listener()
    listener.beat("a", mode="fallback")
    assert listener.found() == [("fallback_engaged", "a")]


def test_a_restart_remembers_who_is_there_and_gives_each_its_time() -> None:
    listener = Listener()
    listener.live("a", "b", seconds=20)
    again = Listener(listener.scanner.keepsake(), start_s=5.0)  # another boot: the monotonic clock began anew
    again.now_s = 5.0
    assert again.found() == []
    again.live("a", seconds=40)
    assert again.found() == [("daemon_silent", "b")]


def test_a_keepsake_that_cannot_be_read_is_ignored() -> None:
    assert Listener("not json").found() == []


def test_a_daemon_gone_for_a_day_is_forgotten() -> None:
    listener = Listener()
    listener.live("a", "b", seconds=20)
    listener.live("a", seconds=90_000)
    assert listener.found() == []


def test_the_number_of_daemons_is_bounded() -> None:
    listener = Listener()
    for index in range(MAX_DAEMONS + 10):
        listener.beat(f"z{index}")
    assert listener.scanner.keepsake().count("heard_us") == MAX_DAEMONS
