"""shadow: runs a candidate beside the incumbent on the same recorded input."""

from __future__ import annotations

import sys

from kloros.consumers.candidates.shadow_settings import ShadowSettings
from kloros.daemon.batch import Batch
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.daemon.daemon import Kit
from kloros.daemon.own_settings import OwnSettings
from kloros.daemon.runner import main, settings_file, stem_of


class ShadowDaemon(Consumer):
    """Runs a candidate beside the incumbent on the same recorded input."""

    zooid = "shadow_daemon"
    niche = "dream"
    ecosystem = "dream"
    schedule = "shadow_evaluation"
    signal = "Q_TRIGGER_SHADOW_EVAL"
    interval_s = 60.0
    consumes = (
        "Q_TOURNAMENT_COMPLETE",
        "Q_CURIOSITY_INVESTIGATE",
    )

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._own = OwnSettings(settings_file(self.place, stem_of(type(self))), ShadowSettings, self.log)

    def work(self, batch: Batch) -> None:
        batch.processed = len(batch.messages)

    def cycle(self, cycle: Cycle) -> None:
        self._own.take()

    def on_reload(self) -> None:
        self._own.reload()


if __name__ == "__main__":
    sys.exit(main(ShadowDaemon))
