"""The vital signs: which side of the mood each belongs to, and how it reads in a sentence. Pure."""

from __future__ import annotations

from typing import NamedTuple

from kloros.affect.state import Reading

STRAIN, MEMORY, OVERWORK = "strain", "memory", "overwork"
FRUSTRATION, FRICTION = "frustration", "friction"


class Sign(NamedTuple):
    """The sides of the mood that it tells of, and its value in words."""

    sides: tuple[str, ...]
    words: str


SIGNS = {
    "cpu_some": Sign((STRAIN,), "work waited for a processor {:.0f} % of the time"),
    "load": Sign((STRAIN,), "{:.1f} tasks for each processor in the last minute"),
    "memory_some": Sign((STRAIN, MEMORY), "work waited for memory {:.0f} % of the time"),
    "memory_full": Sign((STRAIN, MEMORY), "for want of memory nothing got done {:.0f} % of the time"),
    "memory_used": Sign((STRAIN, MEMORY), "{:.0f} % of the memory is taken"),
    "swap_used": Sign((STRAIN, MEMORY), "{:.0f} % of the swap is taken"),
    "io_some": Sign((STRAIN,), "work waited for a disk {:.0f} % of the time"),
    "io_full": Sign((STRAIN,), "for a disk's sake nothing got done {:.0f} % of the time"),
    "disk_used": Sign((STRAIN,), "a file system is {:.0f} % full"),
    "inodes_used": Sign((STRAIN,), "a file system has {:.0f} % of its inodes taken"),
    "heat": Sign((STRAIN,), "it is {:.0f} K below its critical temperature"),
    "delay_ms": Sign((FRICTION,), "ticks and triggers come {:.0f} ms late (99 of 100)"),
    "lost_per_min": Sign((FRICTION,), "{:.0f} messages a minute are lost"),
    "tick_silent_s": Sign((FRICTION,), "the scheduler's tick has been silent for {:.0f} s"),
    "failed": Sign((FRUSTRATION,), "{:.0f} % of the latest cycles failed"),
    "repeated_error": Sign((FRUSTRATION,), "the same error {:.0f} times in a row"),
    "restarts": Sign((FRUSTRATION,), "started anew {:.0f} times, never told to stop"),
    "over_budget": Sign((OVERWORK,), "{:.0f} % of the latest cycles overran their budget"),
    "backlog": Sign((OVERWORK,), "{:.0f} things wait"),
}
CYCLES = "cycles"
"""How many cycles went well of late: no sign of trouble, but without any nothing can be called fine."""

PERILS = {
    "processors": ("load", "cpu_some"),
    "thrashing": ("memory_full",),
    "memory": ("memory_used", "memory_some"),
    "disks": ("io_full", "load"),
    "heat": ("heat",),
}
"""What the brake is for: each peril needs its first sign, and the others too as far as they can be perceived. One alone
is mostly no peril: a single process that copies makes `io_full` a hundred."""


def sentence(name: str, reading: Reading) -> str:
    """The sign as a person would tell it."""
    said = SIGNS[name].words.format(reading.value)
    return f"{said} ({reading.where})" if reading.where else said
