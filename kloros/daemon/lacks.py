"""What a daemon has to do without, named once when it goes and once when it is back."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from kloros.chembus.bus import Bus
from kloros.storage.state_store import StateStore


class Lacks:
    """Looks at the bus and the store, and logs what changed since the last look."""

    def __init__(self, bus: Bus, store: StateStore, log: FilteringBoundLogger) -> None:
        self._bus, self._store, self._log = bus, store, log
        self._was_joined = True
        self._named: str | None = None

    def look(self) -> None:
        """Log changes; a store that could not be written is tried again."""
        if self._bus.joined != self._was_joined:
            self._was_joined = self._bus.joined
            self._log.info("bus_joined") if self._bus.joined else self._log.warning("bus_lost")
        if self._store.lack is not None:
            self._store.flush()
        if self._store.lack != self._named:
            if self._named is None:
                self._log.warning("state_not_saved", reason=self._store.lack)
            elif self._store.lack is None:
                self._log.info("state_saved_again")
            self._named = self._store.lack
