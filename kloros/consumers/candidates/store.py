"""What is remembered of tournaments that have ended, and of candidates in the shadow."""

from __future__ import annotations

import msgspec

from kloros.consumers.candidates.drift import Progress
from kloros.consumers.candidates.history import Tables
from kloros.storage.reads import Reads

TOURNAMENT_TABLES = {
    "tournaments": (
        """
        CREATE TABLE tournaments (
            number INTEGER PRIMARY KEY AUTOINCREMENT, tournament_id TEXT NOT NULL, module TEXT NOT NULL,
            ended_us INTEGER NOT NULL, verdict TEXT NOT NULL, body BLOB NOT NULL
        )
        """,
    )
}
SHADOW_TABLES = {
    "trials": (
        """
        CREATE TABLE trials (
            candidate_id TEXT PRIMARY KEY, module TEXT NOT NULL, started_us INTEGER NOT NULL, ended_us INTEGER,
            body BLOB NOT NULL
        ) WITHOUT ROWID;
        CREATE INDEX trials_by_end ON trials (ended_us)
        """,
    )
}


class Ended(msgspec.Struct, kw_only=True):
    """A tournament that has ended, as it is shown."""

    tournament_id: str
    module: str
    started_us: int
    ended_us: int
    rounds: int
    verdict: str
    detail: str
    parameters: dict[str, float]
    incumbent: dict[str, float]
    champions: list[float] = []
    fitness: float | None = None
    incumbent_fitness: float | None = None
    p_value: float | None = None
    held_out: int = 0
    artifact: str | None = None
    candidate_id: str | None = None


class Trial(msgspec.Struct, kw_only=True):
    """A candidate in the shadow, or one that has ended. The parameters are kept here: what is tried cannot be changed
    on the disk meanwhile."""

    candidate_id: str
    module: str
    artifact: str
    sha256: str
    parameters: dict[str, float]
    incumbent: dict[str, float]
    started_us: int
    expected_gain: float = 0.0
    beat_us: int | None = None
    ended_us: int | None = None
    verdict: str | None = None
    detail: str | None = None
    progress: Progress = msgspec.field(default_factory=Progress)


def tournaments(reads: Reads, most: int) -> list[Ended]:
    """The last so many, newest first."""
    rows = reads.query("SELECT body FROM tournaments ORDER BY number DESC LIMIT ?", (most,))
    return [msgspec.json.decode(body, type=Ended) for (body,) in rows]


def add_tournament(tables: Tables, ended: Ended, keep: int) -> None:
    """Remember one more, and the newest `keep` of all."""
    tables.execute(
        "INSERT INTO tournaments (tournament_id, module, ended_us, verdict, body) VALUES (?, ?, ?, ?, ?)",
        (ended.tournament_id, ended.module, ended.ended_us, ended.verdict, msgspec.json.encode(ended)),
    )
    tables.execute("DELETE FROM tournaments WHERE number <= (SELECT max(number) FROM tournaments) - ?", (keep,))


def trials(reads: Reads, *, ended: bool, most: int) -> list[Trial]:
    """Those that go on, or those that have ended, newest first."""
    which = "ended_us IS NOT NULL ORDER BY ended_us" if ended else "ended_us IS NULL ORDER BY started_us"
    rows = reads.query(f"SELECT body FROM trials WHERE {which} DESC LIMIT ?", (most,))
    return [msgspec.json.decode(body, type=Trial) for (body,) in rows]


def trial(reads: Reads, candidate_id: str) -> Trial | None:
    """The trial of that candidate."""
    rows = reads.query("SELECT body FROM trials WHERE candidate_id = ?", (candidate_id,))
    return msgspec.json.decode(rows[0][0], type=Trial) if rows else None


def put_trial(tables: Tables, trial: Trial) -> None:
    """Keep how far it is."""
    tables.execute(
        "INSERT OR REPLACE INTO trials VALUES (?, ?, ?, ?, ?)",
        (trial.candidate_id, trial.module, trial.started_us, trial.ended_us, msgspec.json.encode(trial)),
    )


def forget_trials(tables: Tables, keep: int) -> None:
    """Forget the oldest that have ended."""
    tables.execute(
        "DELETE FROM trials WHERE ended_us IS NOT NULL AND candidate_id NOT IN "
        "(SELECT candidate_id FROM trials WHERE ended_us IS NOT NULL ORDER BY ended_us DESC LIMIT ?)",
        (keep,),
    )
