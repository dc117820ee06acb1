"""decay: owns the memory, and lets what matters little fade."""

from __future__ import annotations

import sys

from kloros.consumers.memory.settings import MemorySettings
from kloros.daemon.batch import Batch
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.daemon.daemon import Kit
from kloros.daemon.own_settings import OwnSettings
from kloros.daemon.runner import main, settings_file, stem_of


class DecayDaemon(Consumer):
    """Owns the memory, and lets what matters little fade."""

    zooid = "decay_daemon"
    niche = "memory"
    ecosystem = "memory"
    schedule = "memory_decay"
    signal = "Q_TRIGGER_DECAY"
    interval_s = 3600.0
    consumes = (
        "CAPABILITY_GAP",
        "Q_INVESTIGATION_COMPLETE",
        "Q_ACTION_COMPLETE",
    )

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._own = OwnSettings(settings_file(self.place, stem_of(type(self))), MemorySettings, self.log)

    def work(self, batch: Batch) -> None:
        batch.processed = len(batch.messages)

    def cycle(self, cycle: Cycle) -> None:
        self._own.take()

    def on_reload(self) -> None:
        self._own.reload()


if __name__ == "__main__":
    sys.exit(main(DecayDaemon))
