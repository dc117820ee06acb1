"""Asking the history: moments in words, entries in lines, folded messages unfolded, rates that losses cannot spoil."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from kloros.chembus.envelope import Message, codec_for
from kloros.chembus.facts import AffectFacts, Facts, HeartbeatFacts
from kloros.cli.history import as_fields, gap_line, question, record_line
from kloros.cli.moments import parse_moment
from kloros.cli.output import bare
from kloros.cli.rates import Observation
from kloros.cli.replay import Tally, Timed, play, unfolded
from kloros.clock import VirtualClock
from kloros.storage.history_rows import Gap, Record

S = 1_000_000
NOW_US = 1_700_000_000 * S  # 2023-11-14 22:13:20 UTC


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def message(signal: str, facts: Facts, ts: float = 1.0, seq: int | None = 1, pub: str | None = "a@b.1.x") -> Message:
    return codec_for(type(facts)).message_type(
        signal=signal, ecosystem="e", facts=facts, ts=ts, id=f"{pub}.{seq}", pub=pub, seq=seq
    )


def record(number: int, ts_us: int, repeats: int = 0, last_us: int = 0, state: str = "calm", **more: object) -> Record:
    body = codec_for(AffectFacts).encode(message("AFFECT_STATE", AffectFacts(state=state), ts_us / S))
    incident_id = more.get("incident_id")
    assert incident_id is None or isinstance(incident_id, str)
    return Record(number, ts_us, "AFFECT_STATE", "a", "a@b.1.x", incident_id, repeats, max(last_us, ts_us), body)


def gap(missing: int, kind: str = "lost", signal: str = "AFFECT_STATE") -> Gap:
    return Gap(kind, signal, "a", "a@b.1.x", NOW_US, NOW_US + 90 * S, missing)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "ts"),
    [
        ("now", 1_700_000_000),
        ("10m", 1_700_000_000 - 600),
        ("1h30m ago", 1_700_000_000 - 5400),
        ("today", 1_699_920_000),
        ("yesterday", 1_699_833_600),
        ("16:30", 1_699_979_400),
        ("9:05", 1_699_952_700),
        ("23:00:01", 1_699_916_401),
        ("2023-11-14", 1_699_920_000),
        ("2023-11-14 16:30:05", 1_699_979_405),
        ("2023-11-14T16:30:05+01:00", 1_699_975_805),
        ("1699979405.25", 1_699_979_405.25),
    ],
)
def test_moments_are_understood_as_people_write_them(text: str, ts: float) -> None:
    assert parse_moment(text, NOW_US) == round(ts * S)


@pytest.mark.parametrize(
    "text",
    ["soon", "", "25:00", "2023-13-01", "-5m", "16:3", "99999-01-01", "99999d", "999999d", "9" * 20, "1969-12-31"],
)
def test_what_is_no_moment_is_refused_with_samples(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a moment"):
        parse_moment(text, NOW_US)


def test_a_daemon_is_found_with_and_without_its_ending() -> None:
    assert question((), ("scheduler",), None, None, None, NOW_US).zooids == ("scheduler", "scheduler_daemon")
    assert set(question((), ("scheduler_daemon",), None, None, None, NOW_US).zooids) == {"scheduler_daemon"}


def test_a_line_says_who_what_which_incident_and_for_how_many_it_stands() -> None:
    line = bare(record_line(record(1, NOW_US, repeats=59, last_us=NOW_US + 59 * S, incident_id="i7")))
    assert line.split()[:3] == ["22:13:20", "AFFECT_STATE", "a"]
    assert "calm" in line
    assert line.endswith("<incident i7, and 59 more alike until 22:14:19>")


def test_a_gap_says_how_many_and_why() -> None:
    assert bare(gap_line(gap(3))).endswith("-- 3 missing: lost on the way --")
    assert "nobody recorded for 90 s" in gap_line(gap(0, "away", "*"))
    assert as_fields(gap(3, "dropped"))["gap"] == {
        "kind": "dropped", "signal": "AFFECT_STATE", "zooid": "a", "pub": "a@b.1.x", "missing": 3,
        "since_ts": 1.7e9, "until_ts": 1.7e9 + 90,
    }  # fmt: skip


def test_a_record_for_programs_is_the_message_itself() -> None:
    fields = as_fields(record(1, NOW_US))
    assert (fields["signal"], fields["facts"], fields["ts"]) == ("AFFECT_STATE", {"state": "calm"}, 1.7e9)
    assert "repeats" not in fields
    assert as_fields(record(1, NOW_US, 2, NOW_US + S)) == fields | {"repeats": 2, "last_ts": 1.7e9 + 1}


def test_what_no_version_can_read_is_still_shown() -> None:
    strange = Record(1, NOW_US, "Q_FORGOTTEN", "a", None, None, 0, NOW_US, b"{}")
    assert "not readable" in record_line(strange)


def test_folded_messages_come_back_in_number_and_in_their_time() -> None:
    tally = Tally()
    entries = [
        record(1, 0, repeats=4, last_us=40, state="A"),
        record(2, 15, state="B"),
        gap(7),
        record(3, 35, repeats=1, last_us=38, state="C"),
    ]
    entries[2] = Gap("lost", "AFFECT_STATE", "a", "p", 20, 20, 7)
    told = [(timed.ts_us, timed.message.facts.state) for timed in unfolded(entries, tally)]
    assert told == [(0, "A"), (10, "A"), (15, "B"), (20, "A"), (30, "A"), (35, "C"), (38, "C"), (40, "A")]
    assert tally.missing == 7


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 5), st.integers(0, 200)), max_size=20))
def test_whatever_was_folded_the_order_of_time_holds_and_all_come_back(folded: list[tuple[int, int, int]]) -> None:
    entries = [record(n, ts, repeats, ts + span) for n, (ts, repeats, span) in enumerate(sorted(folded))]
    told = [timed.ts_us for timed in unfolded(entries, Tally())]
    assert told == sorted(told)
    assert len(told) == sum(1 + repeats for _, repeats, _ in folded)


@pytest.mark.parametrize(("speed", "expected"), [(1.0, [0.0, 2.0, 10.0]), (4.0, [0.0, 0.5, 2.5]), (0.0, [0.0] * 3)])
def test_the_distances_in_time_are_kept_at_any_speed(speed: float, expected: list[float]) -> None:
    clock, emitted = VirtualClock(), []
    timed = [Timed(ts_us, message("T", Facts())) for ts_us in (5 * S, 7 * S, 15 * S)]
    play(timed, clock, speed, lambda _: emitted.append(clock.monotonic_s()))
    assert emitted == pytest.approx(expected)


def test_a_slow_receiver_does_not_put_the_replay_off_for_good() -> None:
    clock, emitted = VirtualClock(), []

    def emit(_: Message) -> None:
        emitted.append(clock.monotonic_s())
        clock.advance(3.0)

    play([Timed(n * S, message("T", Facts())) for n in (0, 1, 10)], clock, 1.0, emit)
    assert emitted == [0.0, 3.0, 10.0]


@given(st.sets(st.integers(1, 300), min_size=2, max_size=100), st.floats(0.5, 500.0))
def test_the_rate_is_the_publishers_whatever_the_observer_lost(heard: set[int], rate_hz: float) -> None:
    observed = Observation()
    for seq in sorted(heard):
        observed.note(message("T", Facts(), ts=1000.0 + seq / rate_hz, seq=seq), heard_ts=0.0)
    (rate,) = observed.rates()
    assert rate.rate_hz == pytest.approx(rate_hz)
    assert rate.missing == max(heard) - min(heard) + 1 - len(heard)


def test_old_clients_are_counted_as_heard() -> None:
    observed = Observation()
    for n in range(5):
        observed.note(message("T", Facts(), ts=float(n), seq=None, pub=None), heard_ts=0.0)
    (rate,) = observed.rates()
    assert (rate.publisher, rate.rate_hz, rate.missing) == ("an older client", 1.0, 0)


def test_latency_is_from_emit_to_here_and_says_how_many_it_speaks_of() -> None:
    observed = Observation()
    for n in range(100):
        if n % 10 != 5:
            observed.note(message("T", Facts(), ts=float(n), seq=n + 1), heard_ts=n + n / 1000)
    (told,) = observed.latencies()
    assert (told.heard, told.missing) == (90, 10)
    assert told.p50_ms == pytest.approx(50, abs=2)
    assert told.max_ms == pytest.approx(99)


def test_heartbeats_of_many_publishers_have_a_line_each() -> None:
    observed = Observation()
    facts = HeartbeatFacts(zooid="z", niche="n", uptime_s=1.0, processed_count=0)
    for pub in ("a@b.1.x", "b@b.1.y"):
        observed.note(message("HEARTBEAT", facts, pub=pub), 1.0)
    assert [rate.publisher for rate in observed.rates()] == ["a", "b"]
    assert [rate.rate_hz for rate in observed.rates()] == [None, None]
