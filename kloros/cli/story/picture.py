"""What a watcher knows of the suite, put together from the messages that pass. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from kloros.chembus.envelope import Message
from kloros.chembus.facts import CycleReportFacts, HeartbeatFacts, TickFacts, TriggerFacts
from kloros.chembus.facts_work import GapFoundFacts
from kloros.cli.story.fold import Fold
from kloros.cli.story.narrate import Line, narrate, publisher
from kloros.cli.story.ticks import TickBook

STORIES_KEPT = 200


@dataclass
class Story:
    """A signal, and under it what daemons did because of it."""

    line: Line
    schedule: str | None = None
    beat: int | None = None
    reactions: list[Line] = field(default_factory=list)


@dataclass
class Picture:
    """The suite as last heard. Feed it every message, in order."""

    ticks: int = 0
    triggers: int = 0
    messages: int = 0
    findings_told: int = 0
    hearts: dict[str, HeartbeatFacts] = field(default_factory=dict)
    cycles: dict[str, CycleReportFacts] = field(default_factory=dict)
    cycle_count: int = 0
    stories: deque[Story] = field(default_factory=lambda: deque(maxlen=STORIES_KEPT))
    _book: TickBook = field(default_factory=TickBook)
    _fold: Fold = field(default_factory=lambda: Fold(1 << 62))
    _found: dict[str, list[Line]] = field(default_factory=dict)

    @property
    def tick(self) -> TickFacts | None:
        """The latest tick, with every entry seen."""
        return self._book.whole

    def add(self, message: Message) -> None:
        """Take a message in."""
        self.messages += 1
        facts = message.facts
        if isinstance(facts, TickFacts):
            self.ticks += 1
            self._book.add(facts)
        elif isinstance(facts, TriggerFacts):
            self.triggers += 1
            self.stories.append(Story(narrate(message), facts.schedule, facts.beat))
        elif isinstance(facts, CycleReportFacts):
            self.cycle_count += 1
            self.cycles[facts.daemon] = facts
            self._react(facts, [*self._found.pop(publisher(message), []), narrate(message)])
        elif isinstance(facts, GapFoundFacts):
            # A cycle tells its findings just before its report: they are kept until it says which beat it was.
            self.findings_told += 1
            self._found.setdefault(publisher(message), []).append(narrate(message))
        else:
            self._add_other(message)

    def _add_other(self, message: Message) -> None:
        facts = message.facts
        if isinstance(facts, HeartbeatFacts) and facts.niche != "cli":
            self.hearts[facts.zooid] = facts
        if not self._fold.hides(message):
            self.stories.append(Story(narrate(message)))

    def _react(self, report: CycleReportFacts, lines: list[Line]) -> None:
        """Put the reaction under the trigger it answers: its beat's, else the latest of its entry, else by itself."""
        for story in reversed(self.stories):
            is_same_entry = story.schedule == report.schedule or (
                story.schedule is None and report.source == "injected"
            )
            if is_same_entry and (report.beat is None or story.beat == report.beat):
                story.reactions += lines
                return
        self.stories.append(Story(lines[0], reactions=lines[1:]))

    def latest_lines(self, count: int) -> list[Line]:
        """The last so many lines, oldest first; no reaction without its trigger above it, where that fits."""
        lines: list[Line] = []
        for story in reversed(self.stories):
            block = [story.line, *story.reactions]
            if len(lines) + len(block) > count:
                if not lines:
                    lines = block[-count:]
                break
            lines = block + lines
        return lines
