"""Ledgers on a real disk, written as the ledger writer writes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from kloros.chembus.envelope import Message, decode
from kloros.chembus.vocabulary import VOCABULARY
from kloros.consumers.ledger.keys import LEDGER_KEY, make_key, read_key
from kloros.consumers.ledger.recorder import Flushed, LedgerSettings, LimitSettings, Outcome, Recorder
from kloros.storage.database import Database
from kloros.storage.ledger_store import LEDGER_TABLES, LedgerStore

NOW_US = 1_763_000_000_000_000
NOW_TS = NOW_US / 1e6
OBSERVATION_KEY = b"what the zooids of these tests sign with"


Given = tuple[Message, bytes]


def message(offset: int, signal: str = "OBSERVATION", *, is_old: bool = False, **facts: Any) -> Given:
    """A durable signal as the journal gives it, and its JSON; `is_old`: from an old client."""
    if signal == "OBSERVATION":
        facts = {"ts": NOW_TS, "zooid": "zähler", "ok": True, **facts}
    envelope: dict[str, Any] = {"signal": signal, "ecosystem": "tests", "facts": facts, "ts": NOW_TS}
    if not is_old:
        envelope |= {"id": f"m.{offset}", "pub": "someone@boot.1", "seq": offset}
    body = msgspec.json.encode(envelope)
    decoded = decode(signal.encode(), body, VOCABULARY.lookup(signal).facts)
    msgspec.structs.force_setattr(decoded, "offset", offset)
    return decoded, body


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

    def record(self, messages: Iterable[Given]) -> Outcome:
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
