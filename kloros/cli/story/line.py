"""A line of the story, and what all its sentences share. Pure."""

from __future__ import annotations

from typing import NamedTuple

from kloros.chembus.envelope import Message
from kloros.cli.harmless import harmless
from kloros.cli.units import clock_time

SEVERITY_STYLES = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "cyan", "info": "cyan"}


class Line(NamedTuple):
    """One line of the story. `is_reaction` lines belong under an earlier one."""

    ts: float
    text: str
    style: str = ""
    is_reaction: bool = False

    def __str__(self) -> str:
        return f"[{clock_time(self.ts)}] {'  ' if self.is_reaction else ''}{harmless(self.text)}"


def publisher(message: Message) -> str:
    """Who emitted it, as far as the message tells."""
    return harmless((message.pub or "an older client").partition("@")[0])


def because(reason: str | None) -> str:
    """A reason in brackets, if there is one."""
    return f" ({reason})" if reason else ""
