"""semantic_dedup_consumer: folds questions that are nearly the same into one."""

from __future__ import annotations

import sys

from kloros.consumers.dedup.settings import DedupSettings
from kloros.daemon.batch import Batch
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.daemon.daemon import Kit
from kloros.daemon.own_settings import OwnSettings
from kloros.daemon.runner import main, settings_file, stem_of


class SemanticDedupConsumerDaemon(Consumer):
    """Folds questions that are nearly the same into one."""

    zooid = "semantic_dedup_consumer_daemon"
    niche = "curiosity"
    ecosystem = "curiosity"
    schedule = "semantic_dedup"
    signal = "Q_TRIGGER_SEMANTIC_DEDUP"
    interval_s = 5.0
    consumes = (
        "Q_CURIOSITY_CRITICAL",
        "Q_CURIOSITY_HIGH",
        "Q_CURIOSITY_MEDIUM",
        "Q_CURIOSITY_LOW",
        "Q_INVESTIGATION_COMPLETE",
        "CAPABILITY_RESTORED",
    )

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._own = OwnSettings(settings_file(self.place, stem_of(type(self))), DedupSettings, self.log)

    def work(self, batch: Batch) -> None:
        batch.processed = len(batch.messages)

    def cycle(self, cycle: Cycle) -> None:
        self._own.take()

    def on_reload(self) -> None:
        self._own.reload()


if __name__ == "__main__":
    sys.exit(main(SemanticDedupConsumerDaemon))
