"""What was heard live: hearts, the schedule, the scheduler's answers. Written by the loop, read by cycles."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from kloros.chembus.facts import ChangedFacts, HeartbeatFacts, TickEntry, TickFacts

MOST_HEARTS = 1_000
MOST_ANSWERS = 100
FRESH_S = 35.0
"""A heart that beat within this time (hearts beat every 10 s) says what is in force now."""


class Heart(NamedTuple):
    """A process, as it said last; `at_s` is monotonic."""

    pid: int | None
    uptime_s: float
    budget_s: float | None
    schedule: str | None
    mode: str | None
    at_s: float
    artifact: str | None = None

    @property
    def began_s(self) -> float:
        """When the process began."""
        return self.at_s - self.uptime_s


class Live:
    """See above. Each entry is replaced as a whole, so that no reader sees half of one."""

    def __init__(self, began_s: float) -> None:
        """`began_s`: since when it listens."""
        self.began_s = began_s
        self.hearts: OrderedDict[str, Heart] = OrderedDict()
        self.answers: OrderedDict[str, ChangedFacts] = OrderedDict()
        self.entries: Mapping[str, TickEntry] = {}
        self.ticked_s: float | None = None
        self._pages: dict[int, dict[str, TickEntry]] = {}

    def hear_heart(self, facts: HeartbeatFacts, now_s: float) -> None:
        """Somebody lives."""
        heart = Heart(facts.pid, facts.uptime_s, facts.budget_s, facts.schedule, facts.mode, now_s, facts.artifact)
        self.hearts[facts.zooid] = heart
        self.hearts.move_to_end(facts.zooid)
        while len(self.hearts) > MOST_HEARTS:
            self.hearts.popitem(last=False)

    def hear_answer(self, facts: ChangedFacts) -> None:
        """The scheduler says what became of a wish."""
        if not facts.requester:
            return
        self.answers[facts.requester] = facts
        while len(self.answers) > MOST_ANSWERS:
            self.answers.popitem(last=False)

    def hear_tick(self, tick: TickFacts, now_s: float) -> None:
        """The scheduler shows its schedule, perhaps in pages."""
        self._pages = {page: entries for page, entries in self._pages.items() if page < tick.pages}
        self._pages[tick.page] = tick.entries
        self.entries = {name: entry for entries in self._pages.values() for name, entry in entries.items()}
        self.ticked_s = now_s

    def heart(self, zooid: str, now_s: float) -> Heart | None:
        """A process that is known to live; None when it is not."""
        found = self.hearts.get(zooid)
        return found if found is not None and now_s - found.at_s <= FRESH_S else None

    def zooid_of(self, module: str) -> str:
        """The daemon that a module is: MODULE_daemon, or, of somebody's own, what is heard of under the very name."""
        suffixed = f"{module}_daemon"
        return module if module in self.hearts and suffixed not in self.hearts else suffixed

    def is_schedule_known(self, now_s: float) -> bool:
        """Whether the schedule was shown lately."""
        return self.ticked_s is not None and now_s - self.ticked_s <= FRESH_S
