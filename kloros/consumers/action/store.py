"""The action consumer's tables: actions, flags, what was done when, and findings that ended."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from kloros.consumers.action.action import OPEN, UNVERIFIED, Action, Stage
from kloros.consumers.action.flagging import Flag
from kloros.daemon.pen import Pen
from kloros.storage.database import Tables
from kloros.storage.reads import Reads

RecordT = TypeVar("RecordT", Action, Flag)

ACTION_TABLES: Tables = MappingProxyType(
    {
        "action": (
            """
            CREATE TABLE actions (
                action_id TEXT PRIMARY KEY, kind TEXT NOT NULL, target TEXT NOT NULL, stage TEXT NOT NULL,
                outcome TEXT, ended_us INTEGER, lapses_us INTEGER, body BLOB NOT NULL
            ) WITHOUT ROWID;
            CREATE INDEX actions_by_stage ON actions (stage, ended_us);
            CREATE INDEX actions_by_target ON actions (target, stage);
            CREATE TABLE action_gaps (
                gap_id TEXT NOT NULL, action_id TEXT NOT NULL, PRIMARY KEY (gap_id, action_id)
            ) WITHOUT ROWID;
            CREATE TABLE attempts (action_id TEXT PRIMARY KEY, target TEXT NOT NULL, at_us INTEGER NOT NULL)
                WITHOUT ROWID;
            CREATE INDEX attempts_by_time ON attempts (at_us);
            CREATE TABLE trouble (target TEXT PRIMARY KEY, failures INTEGER NOT NULL, until_us INTEGER NOT NULL)
                WITHOUT ROWID;
            CREATE TABLE flags (
                flag_id TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, gap_id TEXT, closed_us INTEGER, body BLOB NOT NULL
            ) WITHOUT ROWID;
            CREATE INDEX flags_by_fingerprint ON flags (fingerprint, closed_us);
            CREATE INDEX flags_by_gap ON flags (gap_id, closed_us);
            CREATE INDEX flags_by_end ON flags (closed_us);
            CREATE TABLE ended_gaps (gap_id TEXT PRIMARY KEY, at_us INTEGER NOT NULL) WITHOUT ROWID
            """,
        )
    }
)
MOST_ENDED_GAPS = 10_000

_PUT = "INSERT OR REPLACE INTO actions VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_PUT_FLAG = "INSERT OR REPLACE INTO flags VALUES (?, ?, ?, ?, ?)"
_FORGET_ACTIONS = (
    "DELETE FROM actions WHERE stage = 'ended' AND action_id NOT IN "
    "(SELECT action_id FROM actions WHERE stage = 'ended' ORDER BY ended_us DESC LIMIT ?) "
    "AND lapses_us IS NULL"
)
_FORGET_FLAGS = (
    "DELETE FROM flags WHERE closed_us IS NOT NULL AND flag_id NOT IN "
    "(SELECT flag_id FROM flags WHERE closed_us IS NOT NULL ORDER BY closed_us DESC LIMIT ?)"
)
_FORGET_GAPS = "DELETE FROM ended_gaps WHERE gap_id NOT IN (SELECT gap_id FROM ended_gaps ORDER BY at_us DESC LIMIT ?)"


# Reading: a daemon's own pen, or a snapshot of its database


def actions(source: Reads, stages: Iterable[Stage] = OPEN) -> list[Action]:
    """The actions in these stages, the most valuable first; of those that ended, the newest first."""
    wanted = list(stages)
    marks = ", ".join("?" * len(wanted))
    rows = source.query(f"SELECT body FROM actions WHERE stage IN ({marks}) ORDER BY ended_us DESC", wanted)
    found = _decoded(rows, Action)
    return found if wanted == [Stage.ENDED] else sorted(found, key=lambda each: each.worth, reverse=True)


def action(source: Reads, action_id: str) -> Action | None:
    """The action with this id."""
    found = _decoded(source.query("SELECT body FROM actions WHERE action_id = ?", (action_id,)), Action)
    return found[0] if found else None


def action_ids(source: Reads) -> list[str]:
    """All ids there are."""
    return [row[0] for row in source.query("SELECT action_id FROM actions")]


def open_on(source: Reads, kind: str, target: str) -> Action | None:
    """The action of that kind on that target that has not ended."""
    sql = "SELECT body FROM actions WHERE target = ? AND kind = ? AND stage <> 'ended'"
    found = _decoded(source.query(sql, (target, kind)), Action)
    return found[0] if found else None


def open_count(source: Reads) -> int:
    """How many actions have not ended."""
    return int(source.query("SELECT count(*) FROM actions WHERE stage <> 'ended'")[0][0])


def is_busy(source: Reads, target: str) -> bool:
    """Whether something was done to the target of which it is not known whether it helped."""
    stages = [stage.value for stage in UNVERIFIED]
    sql = "SELECT 1 FROM actions WHERE target = ? AND stage IN (?, ?) LIMIT 1"
    return bool(source.query(sql, (target, *stages)))


def actions_for_gap(source: Reads, gap_id: str) -> list[Action]:
    """The actions that were recommended for a finding."""
    sql = "SELECT body FROM actions JOIN action_gaps USING (action_id) WHERE gap_id = ?"
    return _decoded(source.query(sql, (gap_id,)), Action)


def gaps_of(source: Reads, action_id: str) -> set[str]:
    """The findings, still open, for which an action was recommended."""
    return {row[0] for row in source.query("SELECT gap_id FROM action_gaps WHERE action_id = ?", (action_id,))}


def lapsing(source: Reads) -> list[Action]:
    """What was done for a while only, and has to be taken back."""
    return _decoded(
        source.query("SELECT body FROM actions WHERE json_extract(body, '$.lapses_us') IS NOT NULL"), Action
    )


def attempt_times(source: Reads, target: str | None = None) -> list[int]:
    """When something was done, to that target or at all."""
    if target is None:
        rows = source.query("SELECT at_us FROM attempts")
    else:
        rows = source.query("SELECT at_us FROM attempts WHERE target = ?", (target,))
    return [row[0] for row in rows]


def trouble(source: Reads, target: str) -> tuple[int, int]:
    """How often in a row it failed on that target, and until when that is left alone."""
    rows = source.query("SELECT failures, until_us FROM trouble WHERE target = ?", (target,))
    return (int(rows[0][0]), int(rows[0][1])) if rows else (0, 0)


def open_flag(source: Reads, fingerprint: str) -> Flag | None:
    """The open flag of that fingerprint."""
    sql = "SELECT body FROM flags WHERE fingerprint = ? AND closed_us IS NULL"
    found = _decoded(source.query(sql, (fingerprint,)), Flag)
    return found[0] if found else None


def open_flags(source: Reads, gap_id: str | None = None) -> list[Flag]:
    """The open flags, or those of one finding."""
    if gap_id is None:
        return _decoded(source.query("SELECT body FROM flags WHERE closed_us IS NULL"), Flag)
    return _decoded(source.query("SELECT body FROM flags WHERE gap_id = ? AND closed_us IS NULL", (gap_id,)), Flag)


def all_flags(source: Reads) -> list[Flag]:
    """Open and closed ones."""
    return _decoded(source.query("SELECT body FROM flags"), Flag)


def has_ended(source: Reads, gap_id: str) -> bool:
    """Whether the finding is known to be over."""
    return bool(source.query("SELECT 1 FROM ended_gaps WHERE gap_id = ?", (gap_id,)))


def _decoded(rows: Iterable[tuple[Any, ...]], shape: type[RecordT]) -> list[RecordT]:
    return [msgspec.json.decode(row[0], type=shape) for row in rows]


# Writing


def put(pen: Pen, action: Action) -> None:
    """Keep an action as it is now."""
    body = msgspec.json.encode(action)
    at = (action.kind, action.target, action.stage.value, action.outcome, action.ended_us, action.lapses_us)
    pen.execute(_PUT, (action.action_id, *at, body))


def put_gap(pen: Pen, gap_id: str, action_id: str) -> None:
    """An action is recommended for a finding."""
    pen.execute("INSERT OR IGNORE INTO action_gaps VALUES (?, ?)", (gap_id, action_id))


def drop_gap(pen: Pen, gap_id: str, now_us: int) -> None:
    """A finding ended: nothing is done for it any more."""
    pen.execute("INSERT OR REPLACE INTO ended_gaps VALUES (?, ?)", (gap_id, now_us))


def reopen_gap(pen: Pen, gap_id: str) -> None:
    """A finding opened, or worsened."""
    pen.execute("DELETE FROM ended_gaps WHERE gap_id = ?", (gap_id,))


def forget_gap_of(pen: Pen, gap_id: str, action_id: str) -> None:
    """The action is no longer wanted for that finding."""
    pen.execute("DELETE FROM action_gaps WHERE gap_id = ? AND action_id = ?", (gap_id, action_id))


def put_attempt(pen: Pen, action: Action, now_us: int) -> None:
    """Something is about to be done."""
    pen.execute("INSERT OR REPLACE INTO attempts VALUES (?, ?, ?)", (action.action_id, action.target, now_us))


def put_trouble(pen: Pen, target: str, failures: int, until_us: int) -> None:
    """It failed so often in a row; zero forgets."""
    if failures:
        pen.execute("INSERT OR REPLACE INTO trouble VALUES (?, ?, ?)", (target, failures, until_us))
    else:
        pen.execute("DELETE FROM trouble WHERE target = ?", (target,))


def put_flag(pen: Pen, flag: Flag) -> None:
    """Keep a flag as it is now."""
    body = msgspec.json.encode(flag)
    pen.execute(_PUT_FLAG, (flag.flag_id, flag.fingerprint, flag.gap_id, flag.closed_us, body))


def tidy(
    pen: Pen, now_us: int, keep: int, attempts_since_us: int, trouble_since_us: int, longest_until_us: int
) -> None:
    """Forget what is of no more use, and let no moment lie further ahead than it can (the clock was set back)."""
    pen.execute("UPDATE attempts SET at_us = ? WHERE at_us > ?", (now_us, now_us))
    pen.execute("DELETE FROM attempts WHERE at_us < ?", (attempts_since_us,))
    pen.execute("UPDATE trouble SET until_us = ? WHERE until_us > ?", (longest_until_us, longest_until_us))
    pen.execute("DELETE FROM trouble WHERE until_us < ?", (trouble_since_us,))
    pen.execute(_FORGET_ACTIONS, (keep,))
    pen.execute("DELETE FROM action_gaps WHERE action_id NOT IN (SELECT action_id FROM actions)")
    pen.execute(_FORGET_FLAGS, (keep,))
    pen.execute(_FORGET_GAPS, (MOST_ENDED_GAPS,))
