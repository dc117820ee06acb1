"""vacuum_journal: journald drops its oldest files."""

from __future__ import annotations

import math

from kloros.consumers.action.action import Action, State
from kloros.consumers.action.kinds.base import NOT_YET, Hand, Judgement, Tools, Unfit, number
from kloros.consumers.action.settings import VacuumJournalSettings
from kloros.machine.privileged_journal import journal_bytes
from kloros.machine.privileged_protocol import VacuumJournal

_BYTES_PER_MB = 1_000_000


class VacuumTheJournal:
    """Has no inverse: what was dropped is gone."""

    def __init__(self, tools: Tools, settings: VacuumJournalSettings) -> None:
        self._tools, self._settings = tools, settings

    def check(self, action: Action) -> State:
        keep_mb = self._keep_mb(action)
        used_bytes = journal_bytes()
        if used_bytes <= keep_mb * _BYTES_PER_MB:
            raise Unfit(f"the journal takes up {used_bytes / _BYTES_PER_MB:.0f} MB, and {keep_mb} MB are to be kept")
        self._tools.require_helper()
        return {"bytes": used_bytes, "keep_mb": keep_mb}

    def act(self, action: Action, before: State, hand: Hand) -> None:
        request = VacuumJournal(keep_mb=int(before["keep_mb"]), by=action.action_id)
        self._tools.helper.ask(request, self._settings.timeout_s)

    def look(self, action: Action, before: State) -> State:
        return {"bytes": journal_bytes()}

    def judge(self, action: Action, before: State, after: State, elapsed_s: float) -> Judgement:
        was, now = int(before["bytes"]) / _BYTES_PER_MB, journal_bytes() / _BYTES_PER_MB
        if now < was:
            return Judgement(True, f"the journal takes up {now:.0f} MB instead of {was:.0f}")
        is_over = elapsed_s >= self._settings.settle_s
        return Judgement(False, f"the journal still takes up {now:.0f} MB") if is_over else NOT_YET

    def undo(self, action: Action, before: State, hand: Hand) -> str | None:
        return None

    def _keep_mb(self, action: Action) -> int:
        return max(self._settings.keep_mb, math.ceil(number(action, "keep_mb", self._settings.keep_mb)))
