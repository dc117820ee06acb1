"""What a watcher leaves out, because it says the same again and again. Pure."""

from __future__ import annotations

from kloros.chembus.envelope import Message
from kloros.chembus.facts import HeartbeatFacts, JournalFacts, OptimiserStateFacts, StatusRequestFacts
from kloros.chembus.facts_work import ActionFacts, FoldedFacts, InvestigationFacts, QuestionFacts, ReviewFacts

MOST_FLAGS_KNOWN = 1_000


class Fold:
    """Hides all but every `ticks`-th tick, the heartbeats of daemons whose mode did not change, how far the optimiser
    is with its beat, and of the work what was said a moment ago: a question handed on, one more question folded into
    the same, the same flag again, what is withdrawn because its finding ended. None: nothing."""

    def __init__(self, ticks: int | None) -> None:
        self._ticks = ticks
        self._ticks_seen = 0
        self._modes: dict[str, str | None] = {}
        self._folded_into = ""
        self._flags: dict[str, None] = {}
        self._optimiser: tuple[str, int, int, int] = ("", 0, 0, 0)

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
        if isinstance(facts, OptimiserStateFacts):
            before = self._optimiser
            self._optimiser = (facts.paused, facts.waiting, facts.open_changes, facts.open_flags)
            return self._optimiser == before
        # A doorbell follows every durable signal, which is shown itself.
        return isinstance(facts, StatusRequestFacts | JournalFacts) or self._hides_work(message.signal, facts)

    def _hides_work(self, signal: str, facts: object) -> bool:
        if isinstance(facts, QuestionFacts):
            return signal == "Q_CURIOSITY_INVESTIGATE" and facts.folded <= 1
        if isinstance(facts, FoldedFacts):
            is_same, self._folded_into = facts.folded_into == self._folded_into, facts.folded_into
            return is_same
        if isinstance(facts, ActionFacts):
            return facts.outcome == "withdrawn" or (signal == "Q_ACTION_SPAWNED" and facts.mode == "observe")
        if isinstance(facts, ReviewFacts):
            return self._is_known(facts.flag_id)
        return isinstance(facts, InvestigationFacts) and facts.status == "withdrawn"

    def _is_known(self, flag_id: str) -> bool:
        is_known = flag_id in self._flags
        self._flags[flag_id] = None
        if len(self._flags) > MOST_FLAGS_KNOWN:
            del self._flags[next(iter(self._flags))]
        return is_known
