"""What a watcher knows of the suite, put together from the messages that pass. Pure."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from kloros.chembus.envelope import Message
from kloros.chembus.facts import CycleReportFacts, HeartbeatFacts, TickFacts, TriggerFacts
from kloros.chembus.facts_work import (
    ActionFacts,
    FlagClosedFacts,
    FoldedFacts,
    GapFoundFacts,
    InvestigationFacts,
    QuestionFacts,
    ReviewFacts,
)
from kloros.cli.story.fold import Fold
from kloros.cli.story.narrate import Line, narrate, publisher
from kloros.cli.story.ticks import TickBook

STORIES_KEPT = 200
WORK_KEPT = 50
# What is done in a cycle stands under its trigger as long as that is still to be seen; this many stories back.
STORIES_IN_SIGHT = 5
# The steps of the chain that are worth a place of their own, and what they are counted as.
STEPS: dict[type, str] = {
    QuestionFacts: "questions", InvestigationFacts: "investigations", ActionFacts: "actions", ReviewFacts: "flags",
    FlagClosedFacts: "", FoldedFacts: "",
}  # fmt: skip


@dataclass
class Story:
    """A signal, and under it what daemons did because of it."""

    line: Line
    schedule: str | None = None
    beat: int | None = None
    reactions: list[Line] = field(default_factory=list)
    is_answered: bool = False


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
    work: deque[Line] = field(default_factory=lambda: deque(maxlen=WORK_KEPT))
    """The latest questions, conclusions, actions and flags."""
    steps: Counter[str] = field(default_factory=Counter)
    """How many of each."""
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
        elif type(facts) in STEPS:
            self._add_work(message)
        else:
            self._add_other(message)

    def _add_work(self, message: Message) -> None:
        """A step of the chain: under the trigger of the cycle that it belongs to, else by itself, at once."""
        if self._fold.hides(message):
            return
        line = narrate(message)
        kind = STEPS[type(message.facts)]
        if kind and message.signal not in ("Q_CURIOSITY_INVESTIGATE", "Q_ACTION_SPAWNED"):
            self.steps[kind] += 1
        self.work.append(line)
        story = self._cycle_of(publisher(message))
        if story is None:
            self.stories.append(Story(line._replace(is_reaction=False)))
        else:
            story.reactions.append(line)

    def _cycle_of(self, daemon: str) -> Story | None:
        """The trigger to which that daemon has not answered yet."""
        report, heart = self.cycles.get(daemon), self.hearts.get(daemon)
        schedule = report.schedule if report else heart.schedule if heart else None
        if schedule is None:
            return None
        for story, _ in zip(reversed(self.stories), range(STORIES_IN_SIGHT), strict=False):
            if story.schedule == schedule:
                return None if story.is_answered else story
        return None

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
                story.is_answered = True
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
