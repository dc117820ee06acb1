"""Beat arithmetic: due moments as integers of microseconds since the Unix epoch.

The scheduler and every consumer's fallback share this file, so that all compute the same due moments
and the same beat numbers without asking anybody. Nothing here accumulates: each due moment is computed
from the anchor.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Grid:
    """The moments `anchor_us + k * interval_us` for every integer k.

    Args:
        anchor_us: any one due moment (an entry's offset, at its nominal interval).
        interval_us: the distance between two due moments, at least 1.
    """

    anchor_us: int
    interval_us: int

    def __post_init__(self) -> None:
        if self.interval_us < 1:
            raise ValueError(f"an interval of {self.interval_us} µs makes no grid: at least 1 µs")

    def due_after(self, t_us: int) -> int:
        """The first due moment later than `t_us`."""
        return t_us + self.interval_us - (t_us - self.anchor_us) % self.interval_us

    def due_at_or_after(self, t_us: int) -> int:
        """The first due moment not earlier than `t_us`."""
        return t_us + (self.anchor_us - t_us) % self.interval_us

    def due_at_or_before(self, t_us: int) -> int:
        """The last due moment not later than `t_us`."""
        return t_us - (t_us - self.anchor_us) % self.interval_us

    def has(self, t_us: int) -> bool:
        """Whether `t_us` is a due moment."""
        return (t_us - self.anchor_us) % self.interval_us == 0

    def beats_between(self, after_us: int, until_us: int) -> range:
        """The due moments in (after_us, until_us], oldest first; `len()` counts them without walking them."""
        return range(self.due_after(after_us), until_us + 1, self.interval_us)


def beat_number(due_us: int, offset_us: int, nominal_us: int) -> int:
    """The number of the beat due at `due_us`: its slot on the nominal grid `offset + beat * nominal`.

    Off its nominal interval an entry keeps this numbering: the label says which nominal slot the moment lies in,
    and the due moment itself is what tells two beats apart.
    """
    return (due_us - offset_us) // nominal_us


def due_of_beat(beat: int, offset_us: int, nominal_us: int) -> int:
    """The moment at which beat number `beat` is due, for an entry at its nominal interval."""
    return offset_us + beat * nominal_us
