"""investigation_consumer: gathers evidence on open questions and concludes."""

from __future__ import annotations

import sys

from kloros.consumers.investigation.settings import InvestigationSettings
from kloros.daemon.batch import Batch
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.daemon.daemon import Kit
from kloros.daemon.own_settings import OwnSettings
from kloros.daemon.runner import main, settings_file, stem_of


class InvestigationConsumerDaemon(Consumer):
    """Gathers evidence on open questions and concludes."""

    zooid = "investigation_consumer_daemon"
    niche = "investigation"
    ecosystem = "introspection"
    schedule = "investigation_processing"
    signal = "Q_TRIGGER_INVESTIGATION"
    interval_s = 300.0
    consumes = (
        "Q_CURIOSITY_INVESTIGATE",
        "CAPABILITY_RESTORED",
    )

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._own = OwnSettings(settings_file(self.place, stem_of(type(self))), InvestigationSettings, self.log)

    def work(self, batch: Batch) -> None:
        batch.processed = len(batch.messages)

    def cycle(self, cycle: Cycle) -> None:
        self._own.take()

    def on_reload(self) -> None:
        self._own.reload()


if __name__ == "__main__":
    sys.exit(main(InvestigationConsumerDaemon))
