"""What the composition root hands to a daemon."""

from __future__ import annotations

from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from kloros.chembus.bus import Bus
from kloros.clock import Clock
from kloros.daemon.notify import Notify
from kloros.daemon.suite_settings import SuiteSettings
from kloros.place import Place
from kloros.storage.state_store import StateStore
from kloros.telemetry.metrics import Metrics


@dataclass(frozen=True)
class Kit:
    """What the composition root hands to a daemon."""

    clock: Clock
    bus: Bus
    store: StateStore
    log: FilteringBoundLogger
    metrics: Metrics
    notify: Notify
    place: Place
    suite: SuiteSettings
    artifact: str | None = None
    """The staged package (`module/version`) that this daemon's code is from; None: the code as installed."""
