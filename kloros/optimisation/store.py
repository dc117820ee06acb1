"""The optimiser's tables: samples, actions, changes, what is in force by it, flags, verdicts of the shadow."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from kloros.daemon.pen import Pen
from kloros.optimisation.changes import Change
from kloros.optimisation.model import Value, Verdict
from kloros.storage.database import Tables
from kloros.storage.reads import Reads

BodyT = TypeVar("BodyT")

OPTIMISER_TABLES: Tables = MappingProxyType(
    {
        "optimiser": (
            """
            CREATE TABLE samples (
                seq INTEGER PRIMARY KEY AUTOINCREMENT, module TEXT NOT NULL, at_us INTEGER NOT NULL,
                duration_s REAL NOT NULL, is_error INTEGER NOT NULL, outcome TEXT NOT NULL
            );
            CREATE INDEX samples_by_module ON samples (module, at_us);
            CREATE INDEX samples_by_time ON samples (at_us);
            CREATE TABLE actions (
                action_id TEXT PRIMARY KEY, seq INTEGER NOT NULL, stage TEXT NOT NULL, module TEXT NOT NULL,
                kind TEXT NOT NULL, change_id TEXT, ended_us INTEGER, body BLOB NOT NULL
            ) WITHOUT ROWID;
            CREATE INDEX actions_by_stage ON actions (stage, seq);
            CREATE INDEX actions_by_change ON actions (change_id);
            CREATE TABLE changes (
                change_id TEXT PRIMARY KEY, module TEXT NOT NULL, state TEXT NOT NULL, written_us INTEGER NOT NULL,
                ended_us INTEGER, body BLOB NOT NULL
            ) WITHOUT ROWID;
            CREATE INDEX changes_by_state ON changes (state, written_us);
            CREATE TABLE knobs (
                kind TEXT NOT NULL, module TEXT NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL,
                PRIMARY KEY (kind, module, name)
            ) WITHOUT ROWID;
            CREATE TABLE flags (
                flag_id TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, state TEXT NOT NULL, action_id TEXT,
                last_us INTEGER NOT NULL, body BLOB NOT NULL
            ) WITHOUT ROWID;
            CREATE INDEX flags_by_fingerprint ON flags (fingerprint);
            CREATE INDEX flags_by_action ON flags (action_id);
            CREATE INDEX flags_by_state ON flags (state, last_us);
            CREATE TABLE verdicts (
                candidate_id TEXT PRIMARY KEY, verdict TEXT NOT NULL, artifact TEXT, sha256 TEXT, at_us INTEGER NOT NULL
            ) WITHOUT ROWID;
            CREATE TABLE proposals (what TEXT PRIMARY KEY, at_us INTEGER NOT NULL) WITHOUT ROWID
            """,
        )
    }
)
MOST_VERDICTS = 1_000


class Stage(StrEnum):
    """Where an action is in its life."""

    QUEUED = "queued"
    """For its turn at the gates."""
    WAITING = "waiting"
    """For a person to approve it."""
    ACTING = "acting"
    """Its change is written ahead; what becomes of it is not told yet."""
    ENDED = "ended"
    """Its one Q_ENACTMENT is told."""


class Taken(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An action as it was heard, and what became of it. Moments are wall microseconds; `raw` is never trusted."""

    action_id: str
    seq: int
    stage: Stage
    module: str
    kind: str
    raw: dict[str, Any]
    source: str = ""
    taken_us: int = 0
    heard: int = 1
    waits_for: str | None = None
    expires_us: int | None = None
    decided_by: str | None = None
    decided_us: int | None = None
    decided_reason: str | None = None
    change_id: str | None = None
    flag_id: str | None = None
    started_us: int | None = None
    ended_us: int | None = None
    status: str | None = None
    reason_code: str | None = None
    gate: str | None = None
    mode: str | None = None
    detail: str | None = None
    before: Value = None
    after: Value = None


class Knob(msgspec.Struct, kw_only=True):
    """Something that is as the optimiser wants it. `origin`: how it was before its first change.

    is_confirmed: it stays until it is taken back, and not only for a lease.
    """

    kind: str
    module: str
    name: str
    value: Value
    origin: Value = None
    until_us: int | None = None
    is_confirmed: bool = False
    is_acked: bool = False


def _bodies(rows: list[tuple[Any, ...]], shape: type[BodyT]) -> list[BodyT]:
    return [msgspec.json.decode(row[0], type=shape) for row in rows]


# Samples


def put_sample(pen: Pen, module: str, at_us: int, duration_s: float, outcome: str) -> None:
    """One cycle of a module ended."""
    sql = "INSERT INTO samples (module, at_us, duration_s, is_error, outcome) VALUES (?, ?, ?, ?, ?)"
    pen.execute(sql, (module, at_us, duration_s, outcome != "ok", outcome))


def samples(source: Reads, module: str, since_us: int, up_to_us: int, most: int) -> list[tuple[int, float, bool, str]]:
    """(when, seconds, whether it went wrong, outcome) of the newest cycles after a moment, up to another."""
    sql = (
        "SELECT at_us, duration_s, is_error, outcome FROM samples WHERE module = ? AND at_us > ? AND at_us <= ? "
        "ORDER BY at_us DESC, seq DESC LIMIT ?"
    )
    rows = source.query(sql, (module, since_us, up_to_us, most))
    return [(row[0], row[1], bool(row[2]), row[3]) for row in reversed(rows)]


def modules_sampled(source: Reads) -> list[str]:
    """All modules of which there are samples."""
    # From name to name in the index: DISTINCT would read it whole.
    sql = (
        "WITH RECURSIVE names(name) AS (SELECT min(module) FROM samples UNION ALL "
        "SELECT (SELECT min(module) FROM samples WHERE module > name) FROM names WHERE name IS NOT NULL) "
        "SELECT name FROM names WHERE name IS NOT NULL"
    )
    return [row[0] for row in source.query(sql)]


# Actions


def action(source: Reads, action_id: str) -> Taken | None:
    """The action with this id."""
    found = _bodies(source.query("SELECT body FROM actions WHERE action_id = ?", (action_id,)), Taken)
    return found[0] if found else None


def actions(source: Reads, *stages: Stage) -> list[Taken]:
    """The actions in these stages, in the order in which they were heard."""
    wanted = stages or tuple(Stage)
    marks = ", ".join("?" * len(wanted))
    return _bodies(source.query(f"SELECT body FROM actions WHERE stage IN ({marks}) ORDER BY seq", wanted), Taken)


def action_of(source: Reads, change_id: str) -> Taken | None:
    """The action for which a change was made."""
    found = _bodies(source.query("SELECT body FROM actions WHERE change_id = ?", (change_id,)), Taken)
    return found[0] if found else None


def next_seq(source: Reads) -> int:
    """The place of the next action."""
    return int(source.query("SELECT coalesce(max(seq), 0) + 1 FROM actions")[0][0])


def put_action(pen: Pen, taken: Taken) -> None:
    """Keep an action as it is now."""
    at = (taken.action_id, taken.seq, taken.stage.value, taken.module, taken.kind, taken.change_id, taken.ended_us)
    pen.execute("INSERT OR REPLACE INTO actions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*at, msgspec.json.encode(taken)))


# Changes


def open_changes(source: Reads) -> list[Change]:
    """The changes that have not ended, oldest first."""
    sql = "SELECT body FROM changes WHERE state <> 'ended' ORDER BY written_us, change_id"
    return _bodies(source.query(sql), Change)


def ended_changes(source: Reads, most: int) -> list[Change]:
    """The changes that have ended, newest first."""
    sql = "SELECT body FROM changes WHERE state = 'ended' ORDER BY ended_us DESC LIMIT ?"
    return _bodies(source.query(sql, (most,)), Change)


def tried_in_vain(source: Reads, since_us: int) -> set[tuple[str, str]]:
    """(module, kind) of the changes that ended since then and were not confirmed."""
    rows = source.query("SELECT body FROM changes WHERE state = 'ended' AND ended_us > ?", (since_us,))
    ended = _bodies(rows, Change)
    return {(each.module_name, each.action_kind.value) for each in ended if each.verdict is not Verdict.CONFIRMED}


def change(source: Reads, change_id: str) -> Change | None:
    """The change with this id."""
    found = _bodies(source.query("SELECT body FROM changes WHERE change_id = ?", (change_id,)), Change)
    return found[0] if found else None


def put_change(pen: Pen, each: Change) -> None:
    """Keep a change as it is now."""
    at = (each.change_id, each.module_name, each.state.value, each.written_us, each.ended_us)
    pen.execute("INSERT OR REPLACE INTO changes VALUES (?, ?, ?, ?, ?, ?)", (*at, msgspec.json.encode(each)))


# What is in force by us


def knob(source: Reads, kind: str, module: str, name: str) -> Knob | None:
    """What the optimiser wants of a thing; None: nothing."""
    sql = "SELECT body FROM knobs WHERE kind = ? AND module = ? AND name = ?"
    found = _bodies(source.query(sql, (kind, module, name)), Knob)
    return found[0] if found else None


def knobs(source: Reads, kind: str | None = None) -> list[Knob]:
    """All that the optimiser wants."""
    sql = "SELECT body FROM knobs WHERE ?1 IS NULL OR kind = ?1 ORDER BY kind, module, name"
    return _bodies(source.query(sql, (kind,)), Knob)


def put_knob(pen: Pen, each: Knob) -> None:
    """Want a thing so."""
    at = (each.kind, each.module, each.name)
    pen.execute("INSERT OR REPLACE INTO knobs VALUES (?, ?, ?, ?)", (*at, msgspec.json.encode(each)))


def drop_knob(pen: Pen, kind: str, module: str, name: str) -> None:
    """Want nothing of it any more."""
    pen.execute("DELETE FROM knobs WHERE kind = ? AND module = ? AND name = ?", (kind, module, name))


# Verdicts of the shadow, and what was proposed


def put_verdict(
    pen: Pen, candidate_id: str, verdict: str, artifact: str | None, sha256: str | None, at_us: int
) -> None:
    """What the shadow said of a candidate."""
    values = (candidate_id, verdict, artifact, sha256, at_us)
    pen.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?)", values)


def is_promoted(source: Reads, candidate_id: str, artifact: str, sha256: str) -> bool:
    """Whether the shadow's last word on that candidate is to promote just this artifact."""
    sql = "SELECT 1 FROM verdicts WHERE candidate_id = ? AND verdict = 'promote' AND artifact = ? AND sha256 = ?"
    return bool(source.query(sql, (candidate_id, artifact, sha256)))


def was_proposed(source: Reads, what: str, since_us: int) -> bool:
    """Whether the same was proposed since then."""
    return bool(source.query("SELECT 1 FROM proposals WHERE what = ? AND at_us > ?", (what, since_us)))


def put_proposal(pen: Pen, what: str, at_us: int) -> None:
    """It is proposed now."""
    pen.execute("INSERT OR REPLACE INTO proposals VALUES (?, ?)", (what, at_us))


def tidy(pen: Pen, samples_since_us: int, proposals_since_us: int, now_us: int, keep: int) -> None:
    """Forget what is of no more use, and what is of a time that has yet to come: the clock was set back."""
    pen.execute("DELETE FROM samples WHERE at_us < ? OR at_us > ?", (samples_since_us, now_us))
    pen.execute("DELETE FROM proposals WHERE at_us < ? OR at_us > ?", (proposals_since_us, now_us))
    ended = "SELECT action_id FROM actions WHERE stage = 'ended' ORDER BY ended_us DESC LIMIT ?"
    pen.execute(f"DELETE FROM actions WHERE stage = 'ended' AND action_id NOT IN ({ended})", (keep,))
    ended = "SELECT change_id FROM changes WHERE state = 'ended' ORDER BY ended_us DESC LIMIT ?"
    pen.execute(f"DELETE FROM changes WHERE state = 'ended' AND change_id NOT IN ({ended})", (keep,))
    kept = "SELECT candidate_id FROM verdicts ORDER BY at_us DESC LIMIT ?"
    pen.execute(f"DELETE FROM verdicts WHERE candidate_id NOT IN ({kept})", (MOST_VERDICTS,))
