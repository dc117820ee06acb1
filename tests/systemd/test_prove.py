"""`kloros prove` and `kloros why` after a run in which everything happened: kills, a fallback, a pause, a pace,
a reload, maintenance. Then lies, planted in copies of what was recorded: each is found and named.

The wall clock is not stepped here, for it is that of the whole computer and not the machine's own. Steps are proven on
a kernel that has a clock of its own (test_clock_steps.py) and in virtual time (test_prove_clock_steps.py and
test_proof_of_days.py in tests/integration).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.systemd.conftest import Installed
from tests.systemd.machine import booted
from tests.systemd.suite import (
    HISTORIAN,
    INTROSPECTION,
    PROXY,
    PYTHON,
    SCHEDULE_FILE,
    SCHEDULER,
    Suite,
)
from tests.systemd.system import wait_for

NAPPER = "kloros-consumer@napper:Napper.service"
UNITS = (PROXY, HISTORIAN, INTROSPECTION, NAPPER, SCHEDULER)
SCAN, NAP = "introspection_scan", "nap"
KILLS = 3

NAPPER_SOURCE = """
from kloros.daemon.consumer import Consumer

class Napper(Consumer):
    schedule = "nap"
    signal = "Q_TRIGGER_NAP"
    interval_s = 1.0

    def cycle(self, cycle):
        cycle.log.info("nap_begins")
        cycle.cancelled.wait(0.4)
"""
SCHEDULE = """
[entries.introspection_scan]
interval_s = 1.0
signal = "Q_TRIGGER_INTROSPECTION"
adaptive = false

[entries.nap]
interval_s = 1.0
offset_s = {nap_offset_s}
signal = "Q_TRIGGER_NAP"
ecosystem = "nap"
"""

LIE = """
import json, sqlite3, sys
state, kind, entry, due_us = sys.argv[1:4] + [int(sys.argv[4])]
beats = sqlite3.connect(f"{state}/scheduler/state.db", isolation_level=None)
history = sqlite3.connect(f"{state}/chembus_historian/state.db", isolation_level=None)
reports = [
    (number, json.loads(body))
    for number, body in history.execute("SELECT number, body FROM messages WHERE signal = 'Q_CYCLE_REPORT'")
]
number, body = next(
    (number, body) for number, body in reports
    if body["facts"]["schedule"] == entry and round(1e6 * (body["facts"].get("due_ts") or 0)) == due_us
)

def tell_again():
    columns = "ts_us, last_us, repeats, signal, zooid, pub, incident_id"
    text = json.dumps(body).encode()
    history.execute(f"INSERT INTO messages ({columns}, body) SELECT {columns}, ? FROM messages WHERE number = ?",
                    (text, number))

if kind == "removed":
    assert beats.execute("DELETE FROM beats WHERE entry = ? AND due_us = ?", (entry, due_us)).rowcount == 1
elif kind == "moved":
    beats.execute("UPDATE beats SET due_us = due_us + 300000 WHERE entry = ? AND due_us = ?", (entry, due_us))
elif kind == "run twice":
    body["facts"]["source"] = "fallback"
    tell_again()
elif kind == "run without being due":
    body["facts"]["due_ts"] += 0.3
    tell_again()
elif kind == "never run":
    history.execute("DELETE FROM messages WHERE number = ?", (number,))
elif kind == "no pause":
    assert beats.execute("DELETE FROM skips WHERE entry = ? AND reason = 'paused'", (entry,)).rowcount
"""


@dataclass
class Past:
    """What happened, as far as the tests ask about it. Moments are due moments, in seconds."""

    suite: Suite
    after_kill_ts: float = 0.0
    fallback_ts: float = 0.0
    killed_in_ts: float = 0.0
    paused_ts: float = 0.0
    paced_ts: float = 0.0
    resting_ts: float = 0.0
    quiet_ts: dict[str, float] = field(default_factory=dict)
    ended_ts: float = 0.0
    proof: dict[str, Any] = field(default_factory=dict)

    def prove(self, *arguments: str, state: str = "/var/lib/kloros") -> tuple[int, str]:
        """The exit code, and what was printed."""
        command = ("env", f"KLOROS_STATE_DIR={state}", "kloros", "prove", *arguments)
        result = self.suite.machine.run(*command, check=False)
        return result.returncode, result.stdout + result.stderr

    def why(self, entry: str, due_ts: float) -> str:
        return self.suite.kloros("why", f"{entry}@{due_ts + 0.05:.2f}")


def cycles(suite: Suite, count: int, *, since: int, source: str | None = "trigger") -> dict[str, list[float]]:
    """Wait until both have run so many cycles; returns when those were due."""
    both = {SCAN: INTROSPECTION, NAP: NAPPER}
    return {
        entry: [c.due_ts or 0.0 for c in suite.wait_for_cycles(count, since=since, unit=unit, source=source)]
        for entry, unit in both.items()
    }


def pass_time(seconds: float) -> None:
    """Let beats be due and not happen: nothing tells that something did not."""
    end_s = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() > end_s, seconds + 1)


def kill_the_scheduler(past: Past) -> None:
    for count in range(1, KILLS + 1):
        mark = past.suite.machine.journal_mark()
        past.suite.machine.kill(SCHEDULER, "KILL")
        wait_for(lambda: past.suite.machine.show(SCHEDULER, "NRestarts") == str(count), 10, "the restart")  # noqa: B023
        past.after_kill_ts = cycles(past.suite, 1, since=mark)[SCAN][-1]


def stop_the_scheduler_until_all_fall_back(past: Past) -> None:
    mark = past.suite.machine.journal_mark()
    past.suite.machine.systemctl("stop", SCHEDULER)
    past.fallback_ts = cycles(past.suite, 2, since=mark, source="fallback")[SCAN][0]
    mark = past.suite.machine.journal_mark()
    past.suite.start(SCHEDULER)
    cycles(past.suite, 1, since=mark)


def kill_a_consumer_in_mid_cycle(past: Past) -> None:
    mark = past.suite.machine.journal_mark()
    begun = wait_for(lambda: past.suite.events(NAPPER, "nap_begins", since=mark), 5, "a nap")[-1]
    past.suite.machine.kill(NAPPER, "KILL")
    ran = past.suite.cycles(mark, NAPPER)
    assert begun["KLOROS_BEAT"] not in {str(cycle.number) for cycle in ran}, "it was killed before its cycle ended"
    past.killed_in_ts = next(
        float(beat["KLOROS_DUE_TS"])
        for beat in past.suite.events(SCHEDULER, "beat")
        if beat["KLOROS_SCHEDULE"] == NAP and beat.get("KLOROS_BEAT") == begun["KLOROS_BEAT"]
    )
    wait_for(lambda: past.suite.machine.show(NAPPER, "NRestarts") == "1", 10, "the restart")
    past.suite.wait_for_cycles(1, since=mark, unit=NAPPER)


def pause_and_resume(past: Past) -> None:
    past.suite.kloros("schedule", "pause", SCAN)
    past.paused_ts = float(int(time.time()) + 1)
    pass_time(2.2)
    past.suite.kloros("schedule", "resume", SCAN)


def change_the_schedule(past: Past) -> None:
    past.suite.machine.write_file(SCHEDULE_FILE, SCHEDULE.format(nap_offset_s=0.25))
    mark = past.suite.machine.journal_mark()
    assert "nap" in past.suite.kloros("schedule", "reload")
    cycles(past.suite, 1, since=mark)


def pace_for_a_while(past: Past) -> None:
    past.suite.kloros("schedule", "set", NAP, "--pace", "0.5", "--for", "4s")
    set_ts = time.time()

    def ran_since() -> list[float]:
        return [cycle.due_ts for cycle in past.suite.cycles(unit=NAPPER) if cycle.due_ts and cycle.due_ts > set_ts]

    past.paced_ts = wait_for(ran_since, 10, "a paced beat")[0]
    pass_time(set_ts + 4.2 - time.time())


def rest(past: Past) -> None:
    past.suite.kloros("maintenance", "on", "--reason", "a test")
    past.resting_ts = float(int(time.time()) + 1)
    pass_time(2.2)
    mark = past.suite.machine.journal_mark()
    past.suite.kloros("maintenance", "off")
    cycles(past.suite, 2, since=mark)


def live(suite: Suite) -> Past:
    """A busy minute; returns once all of it can be judged."""
    past = Past(suite)
    suite.machine.write_file("/etc/kloros/consumers/napper.py", NAPPER_SOURCE)
    suite.machine.write_file(SCHEDULE_FILE, SCHEDULE.format(nap_offset_s=0.5))
    suite.start(*UNITS)
    cycles(suite, 2, since=0)
    kill_the_scheduler(past)
    stop_the_scheduler_until_all_fall_back(past)
    kill_a_consumer_in_mid_cycle(past)
    pause_and_resume(past)
    change_the_schedule(past)
    pace_for_a_while(past)
    rest(past)
    mark = suite.machine.journal_mark()
    quiet = cycles(suite, 4, since=mark)
    past.quiet_ts = {entry: dues[1] for entry, dues in quiet.items()}
    past.ended_ts = max(max(dues) for dues in quiet.values())

    def is_all_judged() -> bool:
        _code, shown = past.prove("--since", "10m", "--json")
        past.proof = json.loads(shown)
        return bool(past.proof["until_us"] / 1e6 > past.ended_ts)

    wait_for(is_all_judged, 15, "the last of it to be judged")
    return past


@pytest.fixture(scope="module")
def past(installed: Installed) -> Iterator[Past]:
    with booted(installed.binds, installed.files) as machine:
        yield live(Suite(machine))


def consumer(proof: dict[str, Any], entry: str) -> dict[str, Any]:
    return next(each for each in proof["consumers"] if each["entry"] == entry)


def test_after_all_of_that_it_is_proven(past: Past) -> None:
    code, shown = past.prove("--since", "10m")
    print(shown)
    assert code == 0, shown
    assert past.proof["ok"]
    for column in ("due", "emitted", "skipped", "run", "fallback", "lost"):
        assert column.upper() in shown.upper()
    for tally in past.proof["schedule"]:
        assert tally["due"] == tally["emitted"] + sum(tally["skipped"].values())
        assert tally["skipped"].keys() & {"downtime", "late"}
        assert "maintenance" in tally["skipped"]
        assert tally["emitted"] > 15
    scan, nap = consumer(past.proof, SCAN), consumer(past.proof, NAP)
    assert "paused" in past.proof["schedule"][0]["skipped"]
    assert min(scan["fallback"], nap["fallback"]) >= 2
    assert scan["lost"] == 0
    assert 1 <= nap["lost"] <= 3, "the one that was killed in mid-cycle, and what came before the restart"
    assert past.proof["notes"] == []
    assert past.proof["unheard"] == []


def test_why_explains_each_of_them(past: Past) -> None:
    killed = past.why(SCAN, past.after_kill_ts)
    assert "emitted" in killed
    assert "run by introspection_daemon" in killed
    assert "(trigger), ok" in killed
    fallback = past.why(SCAN, past.fallback_ts)
    assert "the scheduler was not running" in fallback
    assert "run by introspection_daemon" in fallback
    assert "(fallback), ok" in fallback
    assert "skipped it" not in fallback
    lost = past.why(NAP, past.killed_in_ts)
    assert "emitted" in lost
    assert "napper lost it" in lost
    paused = past.why(SCAN, past.paused_ts)
    assert "the entry was paused" in paused
    assert "paused by an operator" in paused
    assert "maintenance was on" in past.why(SCAN, past.resting_ts)
    paced = past.why(NAP, past.paced_ts)
    assert "planned every 2.0 s instead of 1.0 s" in paced
    assert "operator × 0.5" in paced


@pytest.fixture
def copy(past: Past) -> Iterator[str]:
    """A copy of all that is stored, as it is at one moment."""
    past.suite.machine.sh(
        "mkdir -p /var/tmp/copy/scheduler /var/tmp/copy/chembus_historian\n"
        "for each in scheduler chembus_historian; do\n"
        f"  {PYTHON} -c \"import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('VACUUM INTO ?', sys.argv[2:])\""
        " /var/lib/kloros/$each/state.db /var/tmp/copy/$each/state.db\n"
        "done"
    )
    yield "/var/tmp/copy"
    past.suite.machine.sh("rm -r /var/tmp/copy")


def test_a_copy_proves_the_same(past: Past, copy: str) -> None:
    window = ("--since", f"{past.proof['since_us'] / 1e6:.6f}", "--until", f"{past.ended_ts + 5.5:.6f}")
    code, shown = past.prove(*window, "--json")
    assert past.prove(*window, "--json", state=copy) == (code, shown)
    assert code == 0


@pytest.mark.parametrize("entry", [SCAN, NAP])
@pytest.mark.parametrize(
    ("lie", "found"),
    [
        ("removed", {("vanished", 0.0)}),
        ("moved", {("vanished", 0.0), ("not due", 0.3)}),
        ("run twice", {("run twice", 0.0)}),
        ("run without being due", {("not due", 0.3)}),
        ("never run", {("never run", 0.0)}),
    ],
)
def test_a_lie_is_found_and_the_beat_named(
    past: Past, copy: str, entry: str, lie: str, found: set[tuple[str, float]]
) -> None:
    due_us = round(past.quiet_ts[entry] * 1e6)
    past.suite.machine.run(PYTHON, "-c", LIE, copy, lie, entry, str(due_us))
    code, shown = past.prove("--since", "10m", "--json", state=copy)
    assert code == 1
    wrong = {(each["kind"], each["entry"], each["due_us"]) for each in json.loads(shown)["counterexamples"]}
    assert {(kind, entry, due_us + round(shift_s * 1e6)) for kind, shift_s in found} <= wrong
    assert {each_entry for _kind, each_entry, _due_us in wrong} == {entry}
    code, told = past.prove("--since", "10m", state=copy)
    assert code == 1
    assert "red: " in told
    assert f"{entry}@" in told


def test_a_pause_that_is_struck_from_the_record_leaves_beats_unexplained(past: Past, copy: str) -> None:
    due_us = round(past.quiet_ts[SCAN] * 1e6)
    past.suite.machine.run(PYTHON, "-c", LIE, copy, "no pause", SCAN, str(due_us))
    code, shown = past.prove("--since", "10m", "--json", state=copy)
    assert code == 1
    wrong = json.loads(shown)["counterexamples"]
    assert ("vanished", SCAN, round(past.paused_ts * 1e6)) in {
        (each["kind"], each["entry"], each["due_us"]) for each in wrong
    }
