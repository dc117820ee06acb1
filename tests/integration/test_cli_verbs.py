"""Every verb against a running suite: real forwarder, real scheduler, real introspection, in another process."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from support.command import Home, home, running
from support.verb import Verb

from kloros.chembus.endpoints import Endpoints
from kloros.chembus.zmq_bus import ZmqBus
from kloros.cli.app import call
from kloros.cli.roll_call import EXPECTED


@pytest.fixture(scope="module")
def suite() -> Iterator[Home]:
    with home() as place, running(place):
        yield place


@pytest.fixture
def kloros(suite: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verb:
    for name, value in suite.places.items():
        monkeypatch.setenv(name, value)
    return Verb(capsys)


def entry(kloros: Verb, name: str) -> dict[str, Any]:
    found: dict[str, Any] = kloros.json("schedule", "show")["entries"][name]
    return found


# Status


def test_status_names_every_daemon_and_is_content(kloros: Verb) -> None:
    assert kloros("status") == 0, kloros.err
    for zooid in EXPECTED:
        assert zooid in kloros.out
    assert "none lost" in kloros.out
    assert "\x1b" not in kloros.out
    report = kloros.json("status")
    assert [daemon["answered"] for daemon in report["daemons"]] == [True] * len(EXPECTED)
    assert report["maintenance"] is False


def test_garbage_on_the_bus_is_counted_in_status_and_stops_nothing(kloros: Verb, suite: Home) -> None:
    import zmq

    endpoints = Endpoints.for_runtime_dir(suite.folder / "runtime")
    with zmq.Context() as context, context.socket(zmq.PUB) as publisher:
        publisher.connect(endpoints.publish)
        for _ in range(200):
            publisher.send_multipart([b"Q_TRIGGER_CURIOSITY", b"{no json"])
            publisher.send_multipart([b"NOBODY_KNOWS", b'{"signal":"NOBODY_KNOWS","ecosystem":"x","facts":{},"ts":1}'])
            report = kloros.json("status")
            if set(report["refused"]) >= {"not_json", "unknown_signal"}:
                break
    assert set(report["refused"]) >= {"not_json", "unknown_signal"}
    kloros("status")
    assert "refused (" in kloros.out


# Schedule


def test_the_schedule_is_shown_as_a_table_and_as_data(kloros: Verb) -> None:
    assert kloros("schedule", "show") == 0
    assert "introspection_scan" in kloros.out
    assert "Q_TRIGGER_INTROSPECTION" in kloros.out
    shown = kloros.json("schedule", "show")
    assert shown["maintenance"] is False
    assert shown["entries"]["introspection_scan"]["paused"] is False
    assert shown["entries"]["introspection_scan"]["interval_s"] == 5.0


def test_an_entry_is_paused_and_resumed(kloros: Verb) -> None:
    assert kloros("schedule", "pause", "tournament_evaluation") == 0
    assert kloros.out == "tournament_evaluation: paused\n"
    assert entry(kloros, "tournament_evaluation")["paused"]
    assert kloros("schedule", "resume", "tournament_evaluation") == 0
    assert not entry(kloros, "tournament_evaluation")["paused"]


def test_interval_and_pace_are_set_for_a_while_and_taken_back(kloros: Verb) -> None:
    assert kloros("schedule", "set", "curiosity_generation", "--interval", "30s", "--for", "10m") == 0
    changed = entry(kloros, "curiosity_generation")
    assert changed["interval_s"] == 30.0
    assert changed["override_until_ts"] > changed["next_due_ts"]
    assert kloros("schedule", "set", "curiosity_generation", "--interval", "nominal", "--pace", "0.5") == 0
    assert entry(kloros, "curiosity_generation")["interval_s"] == 120.0
    assert kloros("schedule", "set", "curiosity_generation", "--pace", "1") == 0
    assert entry(kloros, "curiosity_generation")["pace"] == 1.0


def test_the_schedulers_refusal_is_told(kloros: Verb) -> None:
    assert kloros("schedule", "pause", "nonsense") == 1
    assert kloros.err.startswith("kloros: the scheduler refused to pause nonsense: ")
    assert kloros("schedule", "set", "curiosity_generation", "--interval", "9999d") == 1
    assert "is not within" in kloros.err


def test_a_bad_file_is_refused_at_reload_and_found_by_check(kloros: Verb, suite: Home) -> None:
    file = suite.folder / "config" / "scheduler_config.toml"
    good = file.read_text()
    assert kloros("config", "check") == 0
    try:
        file.write_text(good.replace("interval_s = 5.0", "intervall_s = 5.0", 1))
        assert kloros("schedule", "reload") == 1
        assert "intervall_s" in kloros.err
        assert kloros("config", "check") == 2
        assert f"{file}: entries.introspection_scan.intervall_s" in kloros.err
        assert "`interval_s`" in kloros.err
    finally:
        file.write_text(good)
    assert kloros("schedule", "reload") == 0


def test_who_asks_is_shown_the_schedule_at_once(kloros: Verb) -> None:
    from kloros.cli.client import Client
    from kloros.cli.story.ticks import gather_schedule

    # Ticks come each second by themselves: ten of them within five can only be answers.
    with Client("Q_SCHEDULE_TICK") as client:
        end_s = client.clock.monotonic_s() + 5.0
        for _ in range(10):
            assert gather_schedule(client, 1.0).entries
        assert client.clock.monotonic_s() < end_s


# The bus


def test_an_injected_trigger_shows_its_reaction(kloros: Verb) -> None:
    assert kloros("bus", "emit", "Q_TRIGGER_INTROSPECTION", "--wait") == 0
    lines = kloros.out.splitlines()
    assert "Q_TRIGGER_INTROSPECTION emitted (by hand, from kloros_emit)" in lines[0]
    assert "]   introspection_daemon reacted: ok in " in lines[1]


def test_a_trigger_by_the_scheduler_is_seen_by_a_watcher_with_its_reaction(kloros: Verb, suite: Home) -> None:
    watcher = suite.begin("bus", "watch", "Q_TRIGGER_INTROSPECTION", "Q_CYCLE_REPORT", "--json", "--count", "4")
    for _ in range(20):
        assert kloros("schedule", "trigger", "introspection_scan") == 0
        if watcher.poll() is not None:
            break
    stdout, stderr = watcher.communicate(timeout=20)
    seen = [json.loads(line) for line in stdout.splitlines()]
    # The watcher may have come in between a trigger and its reaction; four messages hold a whole pair.
    names = [message["signal"] for message in seen]
    at = names.index("Q_TRIGGER_INTROSPECTION")
    assert names[at + 1] == "Q_CYCLE_REPORT"
    assert seen[at]["facts"]["schedule"] == "introspection_scan"
    assert seen[at + 1]["facts"]["daemon"] == "introspection_daemon"
    assert (watcher.returncode, stderr) == (0, "")


def test_a_watch_ends_after_its_seconds(kloros: Verb) -> None:
    assert kloros("bus", "watch", "Q_SCHEDULE_TICK", "--seconds", "1.2") == 0
    assert "Q_SCHEDULE_TICK" in kloros.out
    assert kloros("bus", "watch", "Q_TRIGGER_CURIOSTY", "--seconds", "0.1") == 0
    assert "did you mean Q_TRIGGER_CURIOSITY?" in kloros.err


def test_a_signal_whose_name_is_no_text_cannot_be_watched(kloros: Verb) -> None:
    assert kloros("bus", "watch", os.fsdecode(b"\xff"), "--seconds", "0.1") == 2
    assert kloros.err == "kloros: the argument '\\xff' is not UTF-8; write it in UTF-8\n"


def test_facts_that_a_signal_does_not_carry_are_refused(kloros: Verb) -> None:
    assert kloros("bus", "emit", "Q_TRIGGER_CURIOSITY", "--facts", '{"interval_s": -1}') == 2
    assert "interval_s" in kloros.err
    assert kloros("bus", "emit", "MAINTENANCE_RESUME", "reason=test", "--json") == 0
    assert json.loads(kloros.out)["signal"] == "MAINTENANCE_RESUME"


# Maintenance


def test_maintenance_is_confirmed_by_those_who_rest(kloros: Verb) -> None:
    assert kloros("maintenance", "on", "--for", "5m", "--reason", "kernel") == 0
    assert "at rest: " + ", ".join(sorted(EXPECTED)) in kloros.out
    told = kloros.json("maintenance", "status")
    assert (told["maintenance"], told["reason"], told["working"]) == (True, "kernel", [])
    assert kloros("status") == 0
    assert "maintenance: on until" in kloros.out
    assert "maintenance" in (kloros("schedule", "show"), kloros.out)[1]
    assert kloros("maintenance", "off") == 0
    assert kloros.out.startswith("maintenance is off; at work: ")
    assert "chem_proxy_daemon" in kloros.out
    assert kloros.json("maintenance", "status")["resting"] == []


# Settings, doctor, one's own consumer


def test_the_settings_in_force_are_dumped(kloros: Verb) -> None:
    assert kloros("config", "dump", "scheduler") == 0
    assert "[entries.introspection_scan]" in kloros.out
    assert set(kloros.json("config", "dump")) >= {"kloros.toml", "scheduler_config.toml"}


def test_the_doctor_finds_the_suite_at_work(kloros: Verb) -> None:
    checks = {check["name"]: check for check in kloros.json("doctor")["checks"]}
    assert checks["bus"]["verdict"] == "good"
    assert "run (process" in checks["locks"]["found"]
    assert checks["daemons"]["verdict"] == "good", checks["daemons"]
    assert all(check["cure"] for check in checks.values() if check["verdict"] == "bad")


def test_ones_own_consumer_joins_reacts_and_leaves(kloros: Verb, suite: Home) -> None:
    source = """
from kloros.daemon.consumer import Consumer
class Mine(Consumer):
    schedule, signal, interval_s = "mine", "Q_TRIGGER_MINE", 60.0
    def cycle(self, cycle):
        cycle.processed = 42
"""
    (suite.folder / "mine_of_test.py").write_text(source)
    consumer = suite.begin("consume", "mine_of_test:Mine")
    try:
        for _ in range(50):
            if "mine" in {daemon["zooid"] for daemon in kloros.json("status")["daemons"]}:
                break
        assert kloros("bus", "emit", "Q_TRIGGER_MINE", "--wait") == 0
        assert "mine reacted: ok" in kloros.out
        assert "42 processed" in kloros.out
        second = suite.run("consume", "mine_of_test:Mine")
        assert second.returncode == 2
        assert "already running" in second.stderr
    finally:
        consumer.terminate()
        _, stderr = consumer.communicate(timeout=20)
    assert consumer.returncode == 0, stderr
    assert "Traceback" not in stderr


def test_without_a_scheduler_a_control_is_answered_by_a_hint(
    runtime_dir: Any, proxy: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KLOROS_RUNTIME_DIR", str(runtime_dir))
    assert call(["schedule", "pause", "introspection_scan"]) == 3
    assert "systemctl status kloros-scheduler" in capsys.readouterr().err
    assert call(["status"]) == 1
    told = capsys.readouterr()
    assert told.out.count("silent") == len(EXPECTED)
    assert "scheduler_daemon does not answer" in told.err
    assert call(["maintenance", "status"]) == 3


def test_a_client_that_loses_its_bus_says_so(
    runtime_dir: Any, start_proxy: Any, monkeypatch: pytest.MonkeyPatch, wait_for: Any
) -> None:
    from kloros.cli.client import Client
    from kloros.errors import BusUnreachable

    monkeypatch.setenv("KLOROS_RUNTIME_DIR", str(runtime_dir))
    process: subprocess.Popen[bytes] = start_proxy()
    with Client("HEARTBEAT") as client:
        process.kill()
        bus: ZmqBus = client.bus
        wait_for(lambda: not bus.receive() and not bus.link_up)
        with pytest.raises(BusUnreachable):
            client.emit("STATUS_REQUEST")
