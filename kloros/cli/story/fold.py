"""What a watcher leaves out, because it says the same again and again. Pure."""

from __future__ import annotations

from kloros.chembus.envelope import Message
from kloros.chembus.facts import HeartbeatFacts, JournalFacts, StatusRequestFacts


class Fold:
    """Hides all but every `ticks`-th tick, and the heartbeats of daemons whose mode did not change. None: nothing."""

    def __init__(self, ticks: int | None) -> None:
        self._ticks = ticks
        self._ticks_seen = 0
        self._modes: dict[str, str | None] = {}

    def hides(self, message: Message) -> bool:
        """Whether to leave this one out; call it once per message, in order."""
        if self._ticks is None:
            return False
        if message.signal == "Q_SCHEDULE_TICK":
            self._ticks_seen += 1
            return (self._ticks_seen - 1) % self._ticks != 0
        facts = message.facts
        if isinstance(facts, HeartbeatFacts):
            # Verbs of this command say goodbye too; nobody waits for them.
            is_same = self._modes.get(facts.zooid, "") == facts.mode or facts.niche == "cli"
            self._modes[facts.zooid] = facts.mode
            return is_same
        # A doorbell follows every durable signal, which is shown itself.
        return isinstance(facts, StatusRequestFacts | JournalFacts)
