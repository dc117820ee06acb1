"""The register of flags on disk: raised here, heard from others, decided by people. Part of whose pen's transaction."""

from __future__ import annotations

from collections import Counter

import msgspec
from structlog.typing import FilteringBoundLogger

from kloros.chembus.facts_work import FlagClosedFacts, ReviewFacts, Severity
from kloros.daemon.pen import Pen
from kloros.optimisation.flags import (
    ELSEWHERE,
    LIVE,
    SEVERITIES,
    Flag,
    State,
    Trouble,
    Word,
    answer,
    decided,
    ended,
    heard,
    must_be_told,
    raised,
    rank,
)
from kloros.storage.reads import Reads

_LIVE_MARKS = ", ".join(f"'{state}'" for state in LIVE)


def flag(source: Reads, flag_id: str) -> Flag | None:
    """The flag with this id."""
    return _first(source.query("SELECT body FROM flags WHERE flag_id = ?", (flag_id,)))


def flags(source: Reads, *states: State) -> list[Flag]:
    """The flags in these states (all by default), the newest first."""
    wanted = states or tuple(State)
    marks = ", ".join("?" * len(wanted))
    rows = source.query(f"SELECT body FROM flags WHERE state IN ({marks}) ORDER BY last_us DESC", wanted)
    return [msgspec.json.decode(row[0], type=Flag) for row in rows]


def live_flag_of(source: Reads, action_id: str) -> Flag | None:
    """The flag, still to be decided, by which an action waits for approval; else another that names it."""
    sql = f"SELECT body FROM flags WHERE action_id = ? AND state IN ({_LIVE_MARKS}) ORDER BY flag_id"
    found = [msgspec.json.decode(row[0], type=Flag) for row in source.query(sql, (action_id,))]
    return max(found, key=lambda each: each.asks_for_approval, default=None)


def live_count(source: Reads) -> int:
    """How many flags somebody should look at."""
    return int(source.query(f"SELECT count(*) FROM flags WHERE state IN ({_LIVE_MARKS})")[0][0])


def _first(rows: list[tuple[bytes, ...]]) -> Flag | None:
    return msgspec.json.decode(rows[0][0], type=Flag) if rows else None


class Register:
    """Writes with one pen, at the moment `now_us`.

    A cycle's statements are seen by nobody until they are committed: `_written` stands in for them meanwhile.
    """

    def __init__(self, pen: Pen, log: FilteringBoundLogger, now_us: int, at_most: int) -> None:
        self._pen, self._log, self._now_us, self._at_most = pen, log, now_us, at_most
        self._written: dict[str, Flag] = {}
        self.counts: Counter[str] = Counter()

    def raise_flag(self, trouble: Trouble) -> str | None:
        """Raise a flag, or the count of the one that is there; returns its id, None where there is no room."""
        found = self._by_fingerprint(trouble.fingerprint)
        if (found is None or not found.is_live) and not self._has_room(trouble.severity, trouble.rationale):
            return None
        raised_now = raised(found, trouble, self._now_us)
        self.counts["flags_raised"] += 1
        if must_be_told(raised_now):
            raised_now.told_reason = raised_now.reason
            self._pen.emit("FLAG_FOR_REVIEW", raised_now.facts(), incident_id=trouble.action_id)
            self._log.warning(
                "flag_raised", flag_id=raised_now.flag_id, severity=raised_now.severity, times=raised_now.count,
                module=raised_now.module, reason=raised_now.reason, rationale=raised_now.rationale,
            )  # fmt: skip
        self._put(raised_now)
        return raised_now.flag_id

    def hear(self, facts: ReviewFacts) -> None:
        """Somebody raised a flag; our own come by here too."""
        found = self._by_id(facts.flag_id)
        if found is None and not self._has_room(facts.severity, facts.rationale):
            return
        if found is None or found.source == ELSEWHERE:
            self._put(heard(found, facts, self._now_us))

    def hear_closed(self, facts: FlagClosedFacts) -> None:
        """What a flag was raised for is over."""
        found = self._by_id(facts.flag_id)
        if found is not None and found.is_live:
            self._put(ended(found, State.CLOSED, facts.reason, self._now_us))

    def decide(self, found: Flag, word: Word, requester: str | None, reason: str | None) -> tuple[bool, str]:
        """A person's word on a flag; returns whether it holds, and what to tell them."""
        accepted, detail = answer(found, word)
        if accepted:
            self._put(decided(found, word, requester, reason, self._now_us))
            if not found.is_live:
                self._tell_closed(found, reason or str(found.state), requester)
        return accepted, detail

    def close(self, flag_id: str, state: State, reason: str) -> None:
        """It is over."""
        found = self._by_id(flag_id)
        if found is not None and found.is_live:
            self._put(ended(found, state, reason, self._now_us))
            self._tell_closed(found, reason, None)

    def expire(self, before_us: int, keep_ended: int) -> None:
        """Flags of which nothing was heard for too long; and of those that ended only the last ones are kept."""
        for each in flags(self._pen, *LIVE):
            if each.last_us < before_us:
                self.close(each.flag_id, State.EXPIRED, "nobody said anything in time")
        kept = f"SELECT flag_id FROM flags WHERE state NOT IN ({_LIVE_MARKS}) ORDER BY last_us DESC LIMIT ?"
        sql = f"DELETE FROM flags WHERE state NOT IN ({_LIVE_MARKS}) AND flag_id NOT IN ({kept})"
        self._pen.execute(sql, (keep_ended,))

    def committed(self) -> None:
        """What was written can be read now."""
        self._written.clear()

    def _tell_closed(self, each: Flag, reason: str, requester: str | None) -> None:
        facts = FlagClosedFacts(
            flag_id=each.flag_id, reason=reason, fingerprint=each.fingerprint, gap_id=each.gap_id, requester=requester
        )
        self._pen.emit("FLAG_CLOSED", facts, incident_id=each.action_id or each.gap_id)
        self._log.info("flag_closed", flag_id=each.flag_id, state=str(each.state), reason=reason)

    def _has_room(self, severity: Severity | None, rationale: str) -> bool:
        """Whether one more flag may be open; the least severe gives way to a worse one."""
        live = self._live()
        if len(live) < self._at_most:
            return True
        least = min(live, key=lambda each: (rank(each), each.last_us))
        if rank(least) < SEVERITIES.index(severity or "medium"):
            self.close(least.flag_id, State.EXPIRED, "more severe ones need its room")
            self.counts["flags_displaced"] += 1
            return True
        self.counts["flags_refused"] += 1
        self._log.error("flag_refused", reason="too many are open", rationale=rationale)
        return False

    def _live(self) -> list[Flag]:
        """Those that are open, with what was written and is not committed."""
        found = {each.flag_id: each for each in flags(self._pen, *LIVE)} | self._written
        return [each for each in found.values() if each.is_live]

    def _by_id(self, flag_id: str) -> Flag | None:
        return self._written.get(flag_id) or flag(self._pen, flag_id)

    def _by_fingerprint(self, fingerprint: str) -> Flag | None:
        """The live one of that fingerprint, or else the latest that ended."""
        rows = self._pen.query("SELECT body FROM flags WHERE fingerprint = ? ORDER BY last_us DESC", (fingerprint,))
        found = {each.flag_id: each for each in (msgspec.json.decode(row[0], type=Flag) for row in rows)}
        found |= {each.flag_id: each for each in self._written.values() if each.fingerprint == fingerprint}
        return max(found.values(), key=lambda each: (each.is_live, each.last_us), default=None)

    def _put(self, each: Flag) -> None:
        self._written[each.flag_id] = each
        at = (each.flag_id, each.fingerprint, each.state.value, each.action_id, each.last_us)
        self._pen.execute("INSERT OR REPLACE INTO flags VALUES (?, ?, ?, ?, ?, ?)", (*at, msgspec.json.encode(each)))
