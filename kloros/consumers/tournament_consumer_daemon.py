"""tournament_consumer: plays candidates for parameters against recorded history."""

from __future__ import annotations

import sys

from kloros.consumers.candidates.tournament_settings import TournamentSettings
from kloros.daemon.batch import Batch
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.daemon.daemon import Kit
from kloros.daemon.own_settings import OwnSettings
from kloros.daemon.runner import main, settings_file, stem_of


class TournamentConsumerDaemon(Consumer):
    """Plays candidates for parameters against recorded history."""

    zooid = "tournament_consumer_daemon"
    niche = "dream"
    ecosystem = "dream"
    schedule = "tournament_evaluation"
    signal = "Q_TRIGGER_TOURNAMENT"
    interval_s = 15.0
    consumes = (
        "Q_CURIOSITY_INVESTIGATE",
        "Q_INVESTIGATION_COMPLETE",
    )

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._own = OwnSettings(settings_file(self.place, stem_of(type(self))), TournamentSettings, self.log)

    def work(self, batch: Batch) -> None:
        batch.processed = len(batch.messages)

    def cycle(self, cycle: Cycle) -> None:
        self._own.take()

    def on_reload(self) -> None:
        self._own.reload()


if __name__ == "__main__":
    sys.exit(main(TournamentConsumerDaemon))
