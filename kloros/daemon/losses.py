"""What a daemon says when it finds that messages were lost."""

from __future__ import annotations

from collections.abc import Sequence

from structlog.typing import FilteringBoundLogger

from kloros.chembus.bus import Bus, Loss
from kloros.chembus.facts import DropFacts, GapFacts
from kloros.units import us_to_seconds

# A lost announcement of a loss is counted, not announced in turn.
ABOUT_LOSSES = ("BUS_GAP", "BUS_DROP")


def announce_losses(losses: Sequence[Loss], bus: Bus, log: FilteringBoundLogger, observer: str) -> None:
    """Log and emit every loss."""
    for loss in losses:
        if loss.signal not in ABOUT_LOSSES:
            _announce(loss, bus, log, observer)


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
