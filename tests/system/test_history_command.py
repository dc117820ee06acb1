"""`kloros bus history`, `replay`, `hz` and `latency` as their user has them, on a suite that runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest
from support.command import LIMIT_S, Home, home, running


@pytest.fixture(scope="module")
def lived() -> Iterator[Home]:
    """A home whose suite ran for some seconds, with one incident in its history."""
    with home() as place, running(place, "--seconds", "120"):
        facts = ["ts=1", "zooid=tester", "ok=true", "sig=durable"]
        assert place.run("bus", "emit", "OBSERVATION", *facts).returncode == 0
        assert place.run("bus", "emit", "AFFECT_STATE", "state=calm").returncode == 0
        yield place


def lines(place: Home, *arguments: str) -> list[dict[str, object]]:
    done = place.run("bus", *arguments, "--json")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_what_passed_is_found_by_signal_daemon_and_time(lived: Home, wait_for: Callable[..., None]) -> None:
    wait_for(lambda: lines(lived, "history", "--signal", "OBSERVATION"), LIMIT_S, "the observation")
    (found,) = lines(lived, "history", "--signal", "OBSERVATION", "--since", "1m")
    assert found["facts"] == {"ts": 1.0, "zooid": "tester", "ok": True, "sig": "durable"}
    assert found["offset"]
    wait_for(lambda: lines(lived, "history", "--daemon", "introspection"), LIMIT_S, "introspection")
    said = lines(lived, "history", "--daemon", "introspection", "--all")
    assert {str(message["pub"]).partition("@")[0] for message in said} == {"introspection_daemon"}
    assert lived.run("bus", "history", "--until", "2020-01-01").returncode == 1


def test_the_table_has_a_line_for_each_and_ticks_are_folded(lived: Home, wait_for: Callable[..., None]) -> None:
    wait_for(lambda: "more alike" in lived.run("bus", "history").stdout, LIMIT_S, "a second tick")
    done = lived.run("bus", "history", "--all")
    heads, day, *rows = done.stdout.splitlines()
    assert heads.split() == ["TIME", "SIGNAL", "DAEMON", "WHAT"]
    assert re.fullmatch(r"-- \d{4}-\d\d-\d\d --", day)
    assert 1 <= sum("Q_SCHEDULE_TICK" in row for row in rows) <= 3


def test_a_replay_goes_onto_a_private_bus_and_the_live_one_hears_none_of_it(
    lived: Home, wait_for: Callable[..., None]
) -> None:
    quiet = "AFFECT_EMERGENCY_BRAKE"  # nobody says it meanwhile
    assert lived.run("bus", "emit", quiet).returncode == 0
    wait_for(lambda: lines(lived, "history", "--signal", quiet), LIMIT_S, "it")
    done = lived.run("bus", "replay", "--from", "10m", "--speed", "0", "--wait", "0", "--only", quiet, "--json")
    assert done.returncode == 0, done.stderr
    assert "private bus" in done.stderr
    assert "KLOROS_RUNTIME_DIR=" in done.stderr
    *again, conclusion = (json.loads(line) for line in done.stdout.splitlines())
    assert [message["signal"] for message in again] == [quiet]
    assert conclusion["replay"]["emitted"] == 1
    assert len(lines(lived, "history", "--signal", quiet)) == 1


def test_a_replay_onto_the_live_bus_is_asked_for_and_told(lived: Home, wait_for: Callable[..., None]) -> None:
    options = ("--from", "10m", "--speed", "0", "--only", "OBSERVATION", "--live")
    before = len(lines(lived, "history", "--signal", "OBSERVATION"))
    done = lived.run("bus", "replay", *options)
    assert done.returncode == 0, done.stderr
    assert "live bus" in done.stderr
    wait_for(lambda: len(lines(lived, "history", "--signal", "OBSERVATION")) == 2 * before, LIMIT_S, "it again")


def test_the_tick_comes_once_a_second_and_within_milliseconds(lived: Home) -> None:
    done = lived.run("bus", "hz", "Q_SCHEDULE_TICK", "--seconds", "3.5", "--json")
    (rate,) = json.loads(done.stdout)
    assert rate["rate_hz"] == pytest.approx(1.0, rel=0.2)
    assert (rate["publisher"], rate["missing"]) == ("scheduler_daemon", 0)
    (told,) = json.loads(lived.run("bus", "latency", "Q_SCHEDULE_TICK", "--seconds", "2.5", "--json").stdout)
    assert 0 < told["p50_ms"] < 1000
    assert lived.run("bus", "hz", "AFFECT_EMERGENCY_BRAKE", "--seconds", "0.2").returncode == 1


def test_without_a_history_or_a_bus_it_says_what_is_missing() -> None:
    with home() as empty:
        done = empty.run("bus", "history")
        assert (done.returncode, "no history yet" in done.stderr) == (4, True)
        assert empty.run("bus", "replay", "--from", "1h", "--live").returncode == 3
        assert empty.run("bus", "history", "--since", "soonish").returncode == 2
