"""The ledger in a real machine: written under the sandbox, verified by its operator, red after tampering."""

from __future__ import annotations

import json
import time

from tests.systemd.suite import LEDGER_WRITER, PYTHON, Suite
from tests.systemd.system import wait_for

FOLDER = "/var/lib/kloros/ledger_writer"
CHANGE_ROW_2 = f"""
import sqlite3
with sqlite3.connect("{FOLDER}/state.db") as ledger:
    ledger.execute("UPDATE ledger_rows SET body = replace(body, 'Köln', 'Koln') WHERE seq = 2")
"""


def rows(suite: Suite) -> int:
    done = suite.machine.run("kloros", "ledger", "verify", "--json", check=False)
    return int(json.loads(done.stdout)["rows"]) if done.stdout else 0


def test_what_is_observed_is_in_the_ledger_and_stays_as_it_was(suite: Suite) -> None:
    machine = suite.machine
    suite.start()
    for number in range(3):
        suite.emit("OBSERVATION", "tests", ts=time.time(), zooid="zähler", ok=True, extras={"n": number, "wo": "Köln"})
    wait_for(lambda: rows(suite) >= 3, 20, "three rows")
    machine.systemctl("kill", "--signal=KILL", LEDGER_WRITER)
    wait_for(lambda: machine.show(LEDGER_WRITER, "NRestarts") == "1" and machine.is_ready(LEDGER_WRITER), 20)
    assert rows(suite) == 3
    assert "green" in suite.kloros("ledger", "verify")
    assert "zähler (unknown)" in suite.kloros("ledger", "show")

    machine.systemctl("stop", LEDGER_WRITER)
    machine.run(PYTHON, "-c", CHANGE_ROW_2)
    red = machine.run("kloros", "ledger", "verify", check=False)
    assert red.returncode == 1
    assert "row 2: was changed" in red.stdout


def test_its_keys_are_its_own(suite: Suite) -> None:
    suite.start()
    wait_for(lambda: suite.machine.is_ready(LEDGER_WRITER), 20)
    for key in ("ledger.key", "observation.key"):
        said = suite.machine.run("stat", "-c", "%a %U", f"{FOLDER}/{key}").stdout
        assert said.split() == ["600", "kloros"]
