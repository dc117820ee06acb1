"""The due moments of one entry, as an endless numbered list that is computed and never stored.

An entry at its nominal interval is due on the nominal grid. A new interval re-anchors it once; the way back to the
nominal grid is a glide: a few evenly spaced steps, none shorter than the shorter of the two intervals, none longer
than the longer, the last of which lands on the grid.
"""

from __future__ import annotations

import msgspec

from kloros.daemon.grid import Grid


class Timeline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Due moments 0, 1, 2, ...: `steps` glide steps from `first_us` to `bend_us`, then every `interval_us`."""

    first_us: int
    steps: int
    bend_us: int
    interval_us: int

    def __post_init__(self) -> None:
        if self.interval_us < 1 or self.steps < 0 or self.bend_us - self.first_us < self.steps:
            raise ValueError(f"due moments must follow one another: {self}")

    def at(self, index: int) -> int:
        """The due moment number `index`."""
        if index >= self.steps:
            return self.bend_us + (index - self.steps) * self.interval_us
        return self.first_us + (self.bend_us - self.first_us) * index // self.steps

    def rank(self, t_us: int) -> int:
        """How many due moments are not later than `t_us`."""
        if t_us >= self.bend_us:
            return self.steps + 1 + (t_us - self.bend_us) // self.interval_us
        if t_us < self.first_us:
            return 0
        # The largest i with span * i // steps <= t - first, plus one.
        return ((t_us - self.first_us + 1) * self.steps - 1) // (self.bend_us - self.first_us) + 1


def on_grid(grid: Grid, after_us: int) -> Timeline:
    """The moments of `grid` later than `after_us`."""
    first_us = grid.due_after(after_us)
    return Timeline(first_us, 0, first_us, grid.interval_us)


def re_anchored(last_us: int, now_us: int, interval_us: int) -> Timeline:
    """Every `interval_us`, counted from the last due moment; from now when that would be in the past."""
    first_us = max(now_us, last_us + interval_us)
    return Timeline(first_us, 0, first_us, interval_us)


def glide(last_us: int, now_us: int, old_interval_us: int, grid: Grid) -> Timeline:
    """From an entry that ran every `old_interval_us`, last at `last_us`, to `grid` in as few steps as the gaps allow.

    Between equal intervals no glide can change the phase: there the entry waits for the grid, less than two intervals.
    """
    shorter_us, longer_us = sorted((old_interval_us, grid.interval_us))
    earliest_us = max(now_us, last_us + shorter_us)
    latest_us = max(earliest_us, last_us + longer_us)
    steps = _glide_steps(earliest_us, latest_us, abs(old_interval_us - grid.interval_us), grid, shorter_us)
    bend_us = grid.due_at_or_after(earliest_us + steps * shorter_us)
    first_us = max(earliest_us, bend_us - steps * longer_us) if steps else bend_us
    return Timeline(first_us, steps, bend_us, grid.interval_us)


def _glide_steps(earliest_us: int, latest_us: int, play_us: int, grid: Grid, shorter_us: int) -> int:
    """Steps needed after a first due moment in [earliest, latest]; each further one widens that window by `play_us`.

    A step of the grid's own interval keeps one end of the window at the same place of the grid; the other end has to
    reach the grid moment that lies beyond it.
    """
    next_us, previous_us = grid.due_at_or_after(earliest_us), grid.due_at_or_before(latest_us)
    if next_us <= latest_us or play_us == 0:
        return 0
    missing_us = next_us - latest_us if grid.interval_us == shorter_us else earliest_us - previous_us
    return -(-missing_us // play_us)
