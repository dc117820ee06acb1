"""A real run of the suite, recorded: its databases, to be looked at, copied, and lied in."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import msgspec

from kloros.clock import SystemClock
from kloros.orchestration.schedule_entry import Change
from support.command import Home, home, running

SCAN, FLUSH = "introspection_scan", "ledger_flush"
REST = "memory_decay"
_ENTRY = '[entries.{}]\ninterval_s = {}\nsignal = "{}"\nadaptive = {}\noffset_s = {}\n\n'
QUICK = (
    _ENTRY.format(SCAN, 0.5, "Q_TRIGGER_INTROSPECTION", "false", 0.1)
    + _ENTRY.format(FLUSH, 1.0, "Q_TRIGGER_LEDGER_FLUSH", "true", 0.3)
    + _ENTRY.format(REST, 86400.0, "Q_TRIGGER_DECAY", "true", 43200.0)
)
# A cycle may be told of for a minute after its beat: only then is it called never run.
LATER_US = 180_000_000
_TICKS = 8


class Recorded:
    """The state of a suite that ran for some seconds and ended: two entries, taken out of the schedule at the end, and
    a scheduler that was seen again three minutes later. Nothing in it is open any more."""

    def __init__(self, place: Home, since_us: int, until_us: int) -> None:
        self.place = place
        self.since, self.until = f"{since_us / 1e6:.6f}", f"{until_us / 1e6:.6f}"
        self._truth = place.folder / "truth"
        self.state = place.folder / "state"

    def tell_the_truth(self) -> None:
        """Undo every lie."""
        shutil.rmtree(self.state)
        shutil.copytree(self._truth, self.state)

    def keep(self) -> None:
        """What is there now is the truth."""
        shutil.copytree(self.state, self._truth)

    def change(self, stem: str, sql: str, *values: Any) -> None:
        """Change a daemon's database; something must have changed."""
        with closing(sqlite3.connect(self.state / stem / "state.db")) as connection:
            assert connection.execute(sql, values).rowcount > 0
            connection.commit()

    def query(self, stem: str, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Look into a daemon's database."""
        with closing(sqlite3.connect(self.state / stem / "state.db")) as connection:
            return connection.execute(sql, values).fetchall()

    def beat(self, entry: str = SCAN) -> int:
        """When a beat in the middle of the run was due."""
        found = self.query("scheduler", "SELECT due_us FROM beats WHERE entry = ? ORDER BY due_us", entry)
        assert len(found) >= 4
        return int(found[len(found) // 2][0])

    def report_of(self, due_us: int, entry: str = SCAN) -> tuple[int, dict[str, Any]]:
        """The number and the message of the cycle that ran a beat."""
        found = self.query("chembus_historian", "SELECT number, body FROM messages WHERE signal = 'Q_CYCLE_REPORT'")
        for number, body in found:
            message = msgspec.json.decode(body)
            facts = message["facts"]
            if facts["schedule"] == entry and round(facts.get("due_ts", 0) * 1e6) == due_us:
                return number, message
        raise AssertionError("nobody ran it")

    def add_report(self, like: int, message: dict[str, Any]) -> None:
        """One more report in the history, like the numbered one, with another text."""
        self.change(
            "chembus_historian",
            "INSERT INTO messages SELECT (SELECT max(number) + 1 FROM messages), ts_us, last_us, repeats, signal,"
            " zooid, pub, incident_id, ? FROM messages WHERE number = ?",
            msgspec.json.encode(message), like,
        )  # fmt: skip


@contextmanager
def recorded_run() -> Iterator[Recorded]:
    """Let the suite run, stop it, and hand over what it left."""
    with home() as place:
        (place.folder / "config" / "scheduler_config.toml").write_text(QUICK)
        clock = SystemClock()
        since_us = clock.wall_us()
        with running(place) as process:
            assert process.stdout
            ticks = 0
            for line in process.stdout:
                ticks += "Q_TRIGGER_LEDGER_FLUSH emitted" in line
                if ticks == _TICKS:
                    break
            quiet = QUICK[QUICK.index(f"[entries.{REST}]") :]
            (place.folder / "config" / "scheduler_config.toml").write_text(quiet)
            assert place.run("schedule", "reload").returncode == 0
        end_us = clock.wall_us()
        recorded = Recorded(place, since_us, end_us + LATER_US)
        seen = Change(end_us + LATER_US, "started", why="epoch 99")
        recorded.change(
            "scheduler", "INSERT INTO plans (entry, at_us, kind, body) VALUES ('', ?, 'started', ?)",
            seen.at_us, msgspec.json.encode(seen).decode(),
        )  # fmt: skip
        recorded.keep()
        yield recorded
