"""prune_history: the historian drops the oldest of what it keeps."""

from __future__ import annotations

import math
from contextlib import suppress

from kloros.chembus.facts_work import PruneFacts
from kloros.consumers.action.action import Action, State
from kloros.consumers.action.kinds.base import NOT_YET, Hand, Judgement, Tools, Unfit, number
from kloros.consumers.action.settings import PruneHistorySettings

_BYTES_PER_MB = 1_000_000
# SQLite's log beside the file comes and goes, and is not worth an action.
_LOG_MB = 12


class PruneHistory:
    """Needs no privilege: the historian is asked by a signal. Has no inverse."""

    def __init__(self, tools: Tools, settings: PruneHistorySettings) -> None:
        self._tools, self._settings = tools, settings

    def check(self, action: Action) -> State:
        keep_mb = max(self._settings.keep_mb, math.ceil(number(action, "keep_mb", self._settings.keep_mb)))
        size_bytes = self._size_bytes()
        if size_bytes is None:
            raise Unfit(f"there is no history in {self._tools.history_file}")
        if size_bytes <= (keep_mb + _LOG_MB) * _BYTES_PER_MB:
            raise Unfit(f"the history takes up {size_bytes / _BYTES_PER_MB:.0f} MB, and {keep_mb} MB are to be kept")
        return {"bytes": size_bytes, "keep_mb": keep_mb}

    def act(self, action: Action, before: State, hand: Hand) -> None:
        requester = f"action consumer, {action.action_id}"
        keep_mb = int(before["keep_mb"])
        hand.emit("Q_HISTORY_PRUNE", PruneFacts(keep_mb=keep_mb, requester=requester, action_id=action.action_id))

    def look(self, action: Action, before: State) -> State:
        return {"bytes": self._size_bytes() or 0}

    def judge(self, action: Action, before: State, after: State, elapsed_s: float) -> Judgement:
        size_bytes = self._size_bytes()
        if size_bytes is None:
            return Judgement(False, "the history is gone")
        now, was = size_bytes / _BYTES_PER_MB, int(before["bytes"]) / _BYTES_PER_MB
        if now < was and now <= int(before["keep_mb"]) + _LOG_MB:
            return Judgement(True, f"the history takes up {now:.0f} MB instead of {was:.0f}")
        if elapsed_s < self._settings.settle_s:
            return NOT_YET
        return Judgement(False, f"the history still takes up {now:.0f} MB; is kloros-chembus-historian running?")

    def undo(self, action: Action, before: State, hand: Hand) -> str | None:
        return None

    def _size_bytes(self) -> int | None:
        """The file with SQLite's log beside it."""
        file = self._tools.history_file
        try:
            size_bytes = file.stat().st_size
        except OSError:
            return None
        with suppress(OSError):
            size_bytes += file.with_name(f"{file.name}-wal").stat().st_size
        return size_bytes
