"""Maintenance mode, pure: a register in which the latest change wins, whoever brings the news.

An operator's signal, a tick of the scheduler and the daemon's own memory may arrive in any order; each carries when the
change was made, so that a tick that was already on its way cannot undo what the operator just asked for.
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

    def is_on(self, now_us: int) -> bool:
        """Suspended, and the agreed end has not come."""
        return self.suspended and (self.until_us is None or now_us < self.until_us)

    def expires_us(self) -> int | None:
        """When the loop must look again because it ends by itself; None when it does not."""
        return self.until_us if self.suspended else None
