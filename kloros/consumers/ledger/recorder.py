"""What a batch of signals does to the ledger: rows, figures and rejections, inside the caller's transaction."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from kloros.chembus.envelope import Message
from kloros.config import Settings
from kloros.consumers.ledger.check import opened
from kloros.consumers.ledger.figures import Figures
from kloros.consumers.ledger.rows import (
    Entry,
    Head,
    NotCanonical,
    Row,
    Segment,
    Signed,
    append,
    is_signed_by,
    row_hash,
    seal,
    sign,
)
from kloros.errors import LedgerBroken
from kloros.storage.ledger_store import LedgerStore
from kloros.units import us_to_seconds

OBSERVATION = "OBSERVATION"
SUITE_ZOOIDS = (
    "action_consumer_daemon",
    "chem_proxy_daemon",
    "chembus_historian_daemon",
    "curiosity_core_consumer_daemon",
    "decay_daemon",
    "introspection_daemon",
    "investigation_consumer_daemon",
    "ledger_writer_daemon",
    "optimiser_daemon",
    "scheduler_daemon",
    "semantic_dedup_consumer_daemon",
    "shadow_daemon",
    "tournament_consumer_daemon",
)


class KeySettings(Settings, frozen=True):
    """[keys]"""

    ledger_file: str = ""
    observation_file: str = ""


class ObservationSettings(Settings, frozen=True):
    """[observations]"""

    require_signature: bool = False
    max_ahead_s: Annotated[float, Meta(gt=0)] = 120.0
    known_zooids: tuple[str, ...] = SUITE_ZOOIDS


class LimitSettings(Settings, frozen=True):
    """[limits]"""

    segment_rows: Annotated[int, Meta(ge=1)] = 50_000
    keep_segments: Annotated[int, Meta(ge=0)] = 50
    rejected_rows: Annotated[int, Meta(ge=1)] = 10_000
    zooids: Annotated[int, Meta(ge=1)] = 10_000


class LedgerSettings(Settings, frozen=True):
    """The whole file."""

    keys: KeySettings = KeySettings()
    observations: ObservationSettings = ObservationSettings()
    limits: LimitSettings = LimitSettings()


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """A message, as far as the ledger cares. `source` is the same whenever the same message is given again."""

    source: str
    offset: int | None
    signal: str
    zooid: str
    ts: float
    incident_id: str | None
    facts: dict[str, Any]


@dataclass
class Outcome:
    """What became of a batch."""

    head: Head
    written: Counter[str] = field(default_factory=Counter)
    """Rows by signal."""
    rejected: Counter[str] = field(default_factory=Counter)
    """By reason."""
    duplicates: int = 0
    unknown_zooids: Counter[str] = field(default_factory=Counter)
    new_zooids: int = 0
    figures_refused: int = 0


@dataclass
class Flushed:
    """What a flush did."""

    head: Head
    sealed: Segment | None = None
    released: list[Segment] = field(default_factory=list)
    forgotten: int = 0


class _Body(msgspec.Struct):
    facts: dict[str, Any]


_decode_body = msgspec.json.Decoder(_Body).decode


def heard(message: Message, body: bytes) -> Heard:
    """A message in the ledger's terms, with all its facts, also those that the vocabulary does not know.

    One of an old client has no id: its bytes stand for it. They hold the moment at which it was emitted, so that the
    same bytes again are the same observation; old clients do send their first message twice.
    """
    facts = _decode_body(body).facts
    is_observation = message.signal == OBSERVATION
    publisher = (message.pub or "").partition("@")[0]
    return Heard(
        source=message.id or f"legacy:{hashlib.sha256(body).hexdigest()}",
        offset=message.offset,
        signal=message.signal,
        zooid=facts["zooid"] if is_observation else publisher or "unknown",
        ts=float(facts["ts"]) if is_observation else message.ts,
        incident_id=facts.get("incident_id") or message.incident_id,
        facts=facts,
    )


class Recorder:
    """Writes one ledger. Keeps nothing in memory that a failed transaction would make untrue."""

    def __init__(self, path: Path, ledger_key: bytes, observation_key: bytes, settings: LedgerSettings) -> None:
        """`path` is only named in errors."""
        self._path, self._key, self._observation_key = path, ledger_key, observation_key
        self.settings = settings

    def begin(self, store: LedgerStore, now_us: int) -> Head:
        """The head of the ledger; an empty store becomes an empty ledger. Raises LedgerBroken."""
        if store.head() is None and store.last_row() is None and not store.segments():
            store.put_segment(1, sign(self._key, Segment(opened_ts=us_to_seconds(now_us))))
            store.put_head(sign(self._key, Head()))
        return self._head(store)

    def record(self, store: LedgerStore, given: Iterable[tuple[Message, bytes]], now_us: int) -> Outcome:
        """Write what is new among these messages, given with their JSON, in their order. Raises LedgerBroken."""
        outcome = Outcome(self._head(store))
        rows: list[Row] = []
        rejections: list[tuple[str, str, str, str, bytes, int]] = []
        figures: dict[str, Figures] = {}
        for each in self._new(store, [heard(*each) for each in given], outcome):
            try:
                refusal = self._refusal(each, us_to_seconds(now_us))
                if refusal is None:
                    row, outcome.head = append(self._key, outcome.head, _entry(each, us_to_seconds(now_us)))
                    rows.append(row)
                    outcome.written[each.signal] += 1
                    self._count(store, each, figures, outcome)
                    continue
            except NotCanonical as error:
                refusal = "not_canonical", str(error)
            reason, detail = refusal
            outcome.rejected[reason] += 1
            rejections.append((each.source, each.signal, reason, detail, msgspec.json.encode(each.facts), now_us))
        if rows:
            store.append(rows)
            store.put_head(sign(self._key, outcome.head))
            store.put_figures((name, msgspec.json.encode(each)) for name, each in figures.items())
        if rejections:
            store.reject(rejections)
        return outcome

    def flush(self, store: LedgerStore, now_us: int) -> Flushed:
        """Seal the open segment if it is full, release the oldest beyond what is kept, forget old rejections."""
        limits, now_ts = self.settings.limits, us_to_seconds(now_us)
        flushed = Flushed(self._head(store))
        segments = [self._segment(number, signed) for number, signed in store.segments()]
        current = segments[-1]
        if flushed.head.seq - current.first_seq + 1 >= limits.segment_rows:
            flushed.sealed, following, flushed.head = seal(current, flushed.head, now_ts)
            segments[-1] = flushed.sealed
            store.put_segment(current.number, sign(self._key, flushed.sealed))
            store.put_segment(following.number, sign(self._key, following))
            store.put_head(sign(self._key, flushed.head))
        kept = [segment for segment in segments if segment.last_seq is not None and segment.released_ts is None]
        for segment in kept[: -limits.keep_segments] if limits.keep_segments else []:
            released = msgspec.structs.replace(segment, released_ts=now_ts)
            store.put_segment(segment.number, sign(self._key, released))
            store.release(segment.first_seq, segment.last_seq or 0)
            flushed.released.append(released)
        flushed.forgotten = store.forget_rejected(limits.rejected_rows)
        return flushed

    def _new(self, store: LedgerStore, all_heard: Sequence[Heard], outcome: Outcome) -> list[Heard]:
        """Those that the ledger does not have yet, each once."""
        seen = store.known_sources([each.source for each in all_heard])
        new: list[Heard] = []
        for each in all_heard:
            if each.source in seen:
                outcome.duplicates += 1
            else:
                seen.add(each.source)
                new.append(each)
        return new

    def _refusal(self, each: Heard, now_ts: float) -> tuple[str, str] | None:
        rules = self.settings.observations
        if each.ts > now_ts + rules.max_ahead_s:
            return "ts_ahead", f"{each.ts - now_ts:.0f} s ahead of this machine's clock"
        if each.signal != OBSERVATION:
            return None
        if each.facts.get("sig") is None:
            return ("unsigned", "signatures are required") if rules.require_signature else None
        if not is_signed_by(self._observation_key, each.facts):
            return "bad_signature", "sig does not fit the other facts"
        return None

    def _count(self, store: LedgerStore, each: Heard, figures: dict[str, Figures], outcome: Outcome) -> None:
        is_known = _is_among(each.zooid, self.settings.observations.known_zooids)
        if not is_known:
            outcome.unknown_zooids[each.zooid] += 1
        if each.signal != OBSERVATION:
            return
        if each.zooid not in figures:
            kept = store.figures_of(each.zooid)
            if kept is None:
                if store.figures_count() + outcome.new_zooids >= self.settings.limits.zooids:
                    outcome.figures_refused += 1
                    return
                outcome.new_zooids += 1
            figures[each.zooid] = msgspec.json.decode(kept, type=Figures) if kept else Figures(zooid=each.zooid)
        figures[each.zooid].known = is_known
        figures[each.zooid].take(each.facts["ok"], each.facts.get("ttr_ms"), each.ts)

    def _head(self, store: LedgerStore) -> Head:
        """Where the ledger ends, if it does end there."""
        signed, last = store.head(), store.last_row()
        head = opened(self._key, Signed(*signed), Head) if signed else None
        if head is None:
            reason = "the record of its end is missing, changed, or signed with another key"
            raise LedgerBroken(path=self._path, reason=reason)
        end = (0, Head().hash) if last is None else (last[0], row_hash(last[4], last[5]))
        if end != (head.seq, head.hash):
            raise LedgerBroken(path=self._path, reason=f"it ends with row {end[0]}, not with row {head.seq} as written")
        return head

    def _segment(self, number: int, signed: tuple[bytes, str]) -> Segment:
        segment = opened(self._key, Signed(*signed), Segment)
        if segment is None or segment.number != number:
            raise LedgerBroken(path=self._path, reason=f"the record of its segment {number} was changed")
        return segment


def _entry(each: Heard, heard_ts: float) -> Entry:
    return Entry(
        seq=0,
        prev="",
        source=each.source,
        offset=each.offset,
        signal=each.signal,
        zooid=each.zooid,
        ts=each.ts,
        heard_ts=heard_ts,
        incident_id=each.incident_id,
        facts=each.facts,
    )


def _is_among(name: str, known: Iterable[str]) -> bool:
    return any(name == each or (each.endswith("*") and name.startswith(each[:-1])) for each in known)
