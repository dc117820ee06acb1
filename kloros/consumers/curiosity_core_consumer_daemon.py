"""curiosity_core_consumer: turns open findings into questions worth asking."""

from __future__ import annotations

import sys

from kloros.consumers.curiosity.settings import CuriositySettings
from kloros.daemon.batch import Batch
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.daemon.daemon import Kit
from kloros.daemon.own_settings import OwnSettings
from kloros.daemon.runner import main, settings_file, stem_of


class CuriosityCoreConsumerDaemon(Consumer):
    """Turns open findings into questions worth asking."""

    zooid = "curiosity_core_consumer_daemon"
    niche = "curiosity"
    ecosystem = "curiosity"
    schedule = "curiosity_generation"
    signal = "Q_TRIGGER_CURIOSITY"
    interval_s = 60.0
    consumes = (
        "CAPABILITY_GAP",
        "CAPABILITY_RESTORED",
        "Q_INVESTIGATION_COMPLETE",
        "Q_QUESTION_FOLDED",
    )

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._own = OwnSettings(settings_file(self.place, stem_of(type(self))), CuriositySettings, self.log)

    def work(self, batch: Batch) -> None:
        batch.processed = len(batch.messages)

    def cycle(self, cycle: Cycle) -> None:
        self._own.take()

    def on_reload(self) -> None:
        self._own.reload()


if __name__ == "__main__":
    sys.exit(main(CuriosityCoreConsumerDaemon))
