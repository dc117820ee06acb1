"""Maintenance mode, pure: a register in which the latest change wins, whoever brings the news.

An operator's signal, a tick of the scheduler and the daemon's own memory may arrive in any order; each carries when the
change was made, so that a tick that was already on its way cannot undo what the operator just asked for. Where the wall
clock was set back since, that is told by the clock as it is now: nothing is ahead of it, or it could not be changed.
"""

from __future__ import annotations

import msgspec


class Maintenance(msgspec.Struct, frozen=True):
    """Whether work is suspended, since when (wall microseconds), and until when at the latest."""

    suspended: bool = False
    changed_us: int = 0
    until_us: int | None = None
    reason: str = ""

    def merged(self, other: Maintenance) -> Maintenance:
        """The later change of the two."""
        return msgspec.structs.replace(other, reason=other.reason[:200]) if other.changed_us > self.changed_us else self

    def rewound(self, now_us: int, step_us: int = 0) -> Maintenance:
        """As the clock says it now that it went `step_us` back: a change that lies ahead of it was made earlier."""
        if self.changed_us <= now_us:
            return self
        return msgspec.structs.replace(self, changed_us=min(now_us, self.changed_us + step_us))

    def is_on(self, now_us: int) -> bool:
        """Suspended, and the agreed end has not come."""
        return self.suspended and (self.until_us is None or now_us < self.until_us)

    def expires_us(self) -> int | None:
        """When the loop must look again because it ends by itself; None when it does not."""
        return self.until_us if self.suspended else None


class Register:
    """What one daemon knows, under a clock that may be set back (`step_us`: by how much since it was last told)."""

    def __init__(self, remembered: Maintenance | None, now_us: int) -> None:
        """`remembered` in an earlier life: if the clock was set back since, nobody can say by how much."""
        before = remembered or Maintenance()
        self.known = before.rewound(now_us)
        self._is_doubtful = self.known is not before

    def take(self, latest: Maintenance, now_us: int, step_us: int) -> bool:
        """News; returns whether they changed anything. What was heard is later than what is doubtful."""
        self.rewind(now_us, step_us)
        before, heard = self.known, latest.rewound(now_us)
        self.known = heard if self._is_doubtful else before.merged(heard)
        self._is_doubtful = False
        return self.known is not before

    def rewind(self, now_us: int, step_us: int) -> None:
        """The clock was stepped by `step_us`."""
        self.known = self.known.rewound(now_us, step_us)
