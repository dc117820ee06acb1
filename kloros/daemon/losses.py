"""What a daemon says when it finds that messages were lost."""

from __future__ import annotations

from collections.abc import Sequence

from structlog.typing import FilteringBoundLogger

from kloros.chembus.bus import Bus, Loss
from kloros.chembus.facts import DropFacts, GapFacts
from kloros.errors import KlorosError
from kloros.units import us_to_seconds

# A lost announcement of a loss is counted, not announced in turn.
ABOUT_LOSSES = ("BUS_GAP", "BUS_DROP")
_SHOWN_CHARS = 200


def announce_losses(losses: Sequence[Loss], bus: Bus, log: FilteringBoundLogger, observer: str) -> None:
    """Log and emit every loss. One that cannot be told of is counted: it comes of what a stranger sent, and must not
    end us."""
    for loss in losses:
        if loss.signal in ABOUT_LOSSES:
            continue
        try:
            _announce(loss, bus, log, observer)
        except KlorosError as error:
            bus.counters.unannounced += 1
            log.error("loss_unannounced", signal=loss.signal[:_SHOWN_CHARS], reason=str(error)[:_SHOWN_CHARS])


def _announce(loss: Loss, bus: Bus, log: FilteringBoundLogger, observer: str) -> None:
    since_ts = us_to_seconds(loss.since_us)
    if loss.kind == "gap":
        log.warning("bus_gap", signal=loss.signal, pub=loss.pub, missing=loss.missing)
        gap = GapFacts(observer=observer, signal=loss.signal, pub=loss.pub, missing=loss.missing, since_ts=since_ts)
        bus.emit("BUS_GAP", gap)
    else:
        log.warning("bus_drop", signal=loss.signal, dropped=loss.missing)
        drop = DropFacts(observer=observer, signal=loss.signal, dropped=loss.missing, since_ts=since_ts)
        bus.emit("BUS_DROP", drop)
