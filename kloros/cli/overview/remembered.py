"""What happened before one began to look, as far as the daemons' databases may be read."""

from __future__ import annotations

from kloros.cli.overview.open_work import Item
from kloros.cli.overview.state import Overview
from kloros.errors import StoreUnusable
from kloros.place import Place

# The history tells the latest so many of each: what was opened and never closed before that is older than that.
MOST_WORK = 500
MOST_CYCLES = 200
_WORK = ("CAPABILITY_*", "FLAG_*", "Q_ACTION_*", "Q_CURIOSITY_*", "Q_QUESTION_FOLDED", "Q_INVESTIGATION_COMPLETE")
_CYCLES = ("Q_CYCLE_REPORT",)


def recall(known: Overview, place: Place) -> str | None:
    """Take it in; returns what could not be read."""
    lacks = []
    try:
        _recall_history(known, place)
    except StoreUnusable as error:
        lacks.append(str(error))
    try:
        _recall_findings(known, place)
    except StoreUnusable as error:
        lacks.append(str(error))
    return "; ".join(lacks) or None


def _recall_history(known: Overview, place: Place) -> None:
    from kloros.cli.history import message_of, open_history
    from kloros.storage.history_rows import Record, Wanted

    with open_history(place) as history:
        for signals, most in ((_WORK, MOST_WORK), (_CYCLES, MOST_CYCLES)):
            for entry in history.newest(Wanted(signals=signals), most):
                message = message_of(entry) if isinstance(entry, Record) else None
                if message is not None:
                    known.remember(message)


def _recall_findings(known: Overview, place: Place) -> None:
    """Introspection's own book is the last word on what is open."""
    from kloros.consumers.introspection.findings import BookSnapshot
    from kloros.storage.snapshot import snapshot
    from kloros.units import US_PER_S

    with snapshot(place.state / "introspection" / "state.db") as taken:
        book = taken.document("findings", BookSnapshot)
    if book is not None:
        known.work.know_findings(
            Item("finding", each.gap_id, each.summary, each.severity.word, each.first_seen_us / US_PER_S, each.gap_id)
            for each in book.findings
        )
