"""What a message says, in one line for a person; reactions stand indented under what they react to. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from kloros.chembus.envelope import Message
from kloros.cli.harmless import harmless
from kloros.cli.story.line import SEVERITY_STYLES, Line, publisher
from kloros.cli.story.optimiser_lines import OPTIMISER_TELLERS
from kloros.cli.story.suite_lines import SUITE_TELLERS
from kloros.cli.story.work_lines import WORK_TELLERS

__all__ = ["SEVERITY_STYLES", "Line", "narrate", "publisher"]

LONGEST_FACTS = 160
_TELLERS = {**SUITE_TELLERS, **WORK_TELLERS, **OPTIMISER_TELLERS}


def narrate(message: Message) -> Line:
    """The message as a line, in which nothing that others wrote can move a cursor or begin another line."""
    tell = _TELLERS.get(type(message.facts), _anything)
    line = tell(message, message.facts)
    return line._replace(text=harmless(line.text))


def _anything(message: Message, facts: Any) -> Line:
    shown = msgspec.json.encode(facts).decode()
    if len(shown) > LONGEST_FACTS:
        shown = shown[: LONGEST_FACTS - 3] + "..."
    return Line(message.ts, f"{message.signal} {shown}".removesuffix(" {}"))
