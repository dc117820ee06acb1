"""Ledgers on a real disk, written as the ledger writer writes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from kloros.chembus.envelope import Message
from kloros.chembus.vocabulary import VOCABULARY
from kloros.consumers.ledger_keys import LEDGER_KEY, make_key, read_key
from kloros.consumers.ledger_recorder import Flushed, LedgerSettings, LimitSettings, Outcome, Recorder
from kloros.storage.database import Database
from kloros.storage.ledger_store import LEDGER_TABLES, LedgerStore

NOW_US = 1_763_000_000_000_000
NOW_TS = NOW_US / 1e6
OBSERVATION_KEY = b"what the zooids of these tests sign with"


def message(offset: int, signal: str = "OBSERVATION", *, id: str | None = "", **facts: Any) -> Message:  # noqa: A002
    """A durable signal as the journal gives it; `id` None for one of an old client."""
    if signal == "OBSERVATION":
        facts = {"ts": NOW_TS, "zooid": "zähler", "ok": True, **facts}
    return Message(
        signal=signal,
        ecosystem="tests",
        facts=msgspec.convert(facts, VOCABULARY.lookup(signal).facts),
        ts=NOW_TS,
        id=f"m.{offset}" if id == "" else id,
        pub=None if id is None else "someone@boot.1",
        seq=None if id is None else offset,
        offset=offset,
    )


class Ledger:
    """A database file with a ledger in it, and the hand of its writer."""

    def __init__(self, folder: Path, settings: LedgerSettings) -> None:
        self.path = folder / "state.db"
        self.key_file = folder / LEDGER_KEY
        if not self.key_file.exists():
            make_key(self.key_file)
        self.database = Database(self.path, LEDGER_TABLES)
        self.store = LedgerStore(self.database)
        self.recorder = Recorder(self.path, read_key(self.key_file), OBSERVATION_KEY, settings)
        with self.database.transaction(forced=True):
            self.recorder.begin(self.store, NOW_US)

    def record(self, messages: Iterable[Message]) -> Outcome:
        """One batch."""
        with self.database.transaction(forced=True):
            return self.recorder.record(self.store, messages, NOW_US)

    def flush(self) -> Flushed:
        """One beat."""
        with self.database.transaction(forced=True):
            return self.recorder.flush(self.store, NOW_US)


@contextmanager
def ledger(folder: Path, limits: Mapping[str, int] | None = None, **observations: Any) -> Iterator[Ledger]:
    """A ledger in `folder`, new or as it was left."""
    settings = msgspec.convert({"limits": limits or {}, "observations": observations}, LedgerSettings)
    assert isinstance(settings.limits, LimitSettings)
    opened = Ledger(folder, settings)
    try:
        yield opened
    finally:
        opened.database.close()
