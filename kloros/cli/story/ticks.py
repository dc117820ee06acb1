"""The whole schedule, put together from the scheduler's ticks."""

from __future__ import annotations

import msgspec

from kloros.chembus.facts import StatusRequestFacts, TickFacts
from kloros.cli.client import Client, requester
from kloros.errors import SchedulerSilent


class TickBook:
    """Pages of ticks, laid together: `whole` knows every entry of the pages seen since the schedule last changed."""

    def __init__(self) -> None:
        self._pages: dict[int, TickFacts] = {}
        self._latest: TickFacts | None = None

    def add(self, tick: TickFacts) -> None:
        """Take a tick; those of an earlier scheduler or of another number of pages are forgotten."""
        if self._latest and (tick.epoch, tick.pages) != (self._latest.epoch, self._latest.pages):
            self._pages.clear()
        self._pages[tick.page] = self._latest = tick

    @property
    def is_whole(self) -> bool:
        """Whether every page was seen."""
        return self._latest is not None and len(self._pages) >= self._latest.pages

    @property
    def whole(self) -> TickFacts | None:
        """The latest tick with the entries of all pages seen; None before the first."""
        if self._latest is None:
            return None
        entries = {name: entry for page in self._pages.values() for name, entry in page.entries.items()}
        return msgspec.structs.replace(self._latest, entries=entries)


def gather_schedule(client: Client, timeout_s: float) -> TickFacts:
    """The schedule as it is now, all pages of it; raises SchedulerSilent. `client` hears Q_SCHEDULE_TICK."""
    client.emit("STATUS_REQUEST", StatusRequestFacts(requester=requester()))  # the scheduler ticks at once when asked
    book = TickBook()
    for message in client.messages(timeout_s):
        if isinstance(message.facts, TickFacts):
            book.add(message.facts)
            if book.is_whole:
                break
    if book.whole is None:
        raise SchedulerSilent(timeout_s=timeout_s)
    return book.whole
