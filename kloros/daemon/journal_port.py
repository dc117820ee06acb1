"""A daemon's connection to the journal, opened when it is first needed and served by the daemon's loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kloros.chembus.journal.contract import Appended, Entry, Journal, NotKept, Page
from kloros.daemon.loop import Loop

_TIMER = "journal"


class JournalPort:
    """See chembus.journal.contract.Journal. Belongs to the loop's thread; answers come from the loop."""

    def __init__(self, open_journal: Callable[[], Journal], loop: Loop) -> None:
        self._open = open_journal
        self._loop = loop
        self._journal: Journal | None = None

    def append(self, entries: Sequence[Entry], done: Callable[[Appended | NotKept], None]) -> None:
        """Keep entries; `done` is called once they are, or will not be."""
        self._opened().append(entries, done)
        self._arm()

    def fetch(
        self, consumer: str, signals: Sequence[str], journal: str, after: int, limit: int, done: Callable[[Page], None]
    ) -> None:
        """Ask for a page."""
        self._opened().fetch(consumer, signals, journal, after, limit, done)
        self._arm()

    def committed(self, consumer: str, signals: Sequence[str], journal: str, offset: int) -> None:
        """Tell how far this daemon is."""
        self._opened().committed(consumer, signals, journal, offset)

    def close(self) -> None:
        """Forget what was not answered."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _opened(self) -> Journal:
        if self._journal is None:
            self._journal = self._open()
            self._loop.add_source(self._journal, self._turn)
        return self._journal

    def _turn(self) -> None:
        if self._journal is not None:
            self._journal.turn()
            self._arm()

    def _arm(self) -> None:
        if self._journal is not None:
            self._loop.at_monotonic(_TIMER, self._journal.next_due_s(), self._turn)
