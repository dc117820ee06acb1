"""What the journal does, short of sockets and threads: keep, tell live subscribers, ring the doorbell, answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kloros.chembus.envelope import MAX_MESSAGE_BYTES
from kloros.chembus.facts import JournalFacts
from kloros.chembus.journal.contract import (
    MAX_ENTRIES,
    MAX_PAGE_BYTES,
    MAX_ROWS,
    Appended,
    Entry,
    JournalStore,
    NothingTidied,
    NotKept,
    Page,
    Tidied,
    Told,
    objection,
    with_offset,
)
from kloros.chembus.journal.wire import Append, Committed, Fetch, StatusAsked
from kloros.clock import Clock
from kloros.errors import StoreUnusable

_MAX_RUNG_SIGNALS = 100


class JournalKeeper:
    """Serves one store. Nothing is acknowledged, forwarded or rung for before it is on disk."""

    def __init__(self, store: JournalStore, clock: Clock, publish: Callable[[bytes, bytes], bool]) -> None:
        """`publish` hands two frames to live subscribers; whether that worked."""
        self._store = store
        self._clock = clock
        self._publish = publish
        self._advanced: set[str] = set()
        self._end = 0
        self._unforwarded: list[tuple[str, bytes, int]] = []
        self.lack: str | None = None
        self.counters = {
            "appended": 0,
            "repeated": 0,
            "commits": 0,
            "refused_disk": 0,
            "refused_bad": 0,
            "unforwarded": 0,
            "pruned_read": 0,
            "pruned_unread": 0,
            "consumers_forgotten": 0,
        }

    def append(self, requests: Sequence[Append], legacy: Sequence[Entry] = ()) -> list[Appended | NotKept]:
        """Keep everything asked for in one commit; the answers, in order.

        `legacy` came over the volatile path: live subscribers have heard it already.
        """
        answers: dict[int, Appended | NotKept] = {}
        good: list[Entry] = []
        spans: list[tuple[int, int, int]] = []
        for index, request in enumerate(requests):
            wrong = self._wrong(request)
            if wrong:
                self.counters["refused_bad"] += 1
                answers[index] = NotKept(request.request, "bad", wrong)
                continue
            spans.append((index, len(good), len(good) + len(request.entries)))
            good += request.entries
        heard_from = len(good)
        good += [entry for entry in legacy if objection(entry, MAX_MESSAGE_BYTES) is None]
        placed = self._commit(good)
        for index, start, stop in spans:
            number = requests[index].request
            if placed is None:
                self.counters["refused_disk"] += 1
                answers[index] = NotKept(number, "disk", self.lack or "")
            else:
                answers[index] = Appended(number, [offset for offset, _ in placed[start:stop]])
        if placed is not None:
            self._note(good, placed, heard_from)
        return [answers[index] for index in range(len(requests))]

    def forward(self) -> None:
        """Hand what was kept to live subscribers."""
        for signal, body, offset in self._unforwarded:
            if not self._publish(signal.encode(), with_offset(body, offset)):
                self.counters["unforwarded"] += 1
        self._unforwarded.clear()

    def fetch(self, asked: Fetch) -> Page | NotKept:
        """A page of the journal."""
        try:
            store, now_us = self._store, self._clock.wall_us()
            pruned, end = store.bounds()
            if asked.journal != store.journal:
                return Page(asked.request, store.journal, [], 0, end, 0)
            store.note_consumer(asked.consumer, asked.signals, None, now_us)
            limit = max(1, min(asked.limit, MAX_ROWS))
            rows, next_after = store.read(asked.signals, asked.after, limit, MAX_PAGE_BYTES)
        except StoreUnusable as error:
            return NotKept(asked.request, "disk", str(error))
        return Page(asked.request, store.journal, rows, next_after, end, max(0, pruned - asked.after))

    def committed(self, said: Committed) -> None:
        """Note how far a consumer is."""
        try:
            if said.journal == self._store.journal:
                self._store.note_consumer(said.consumer, said.signals, said.offset, self._clock.wall_us())
        except StoreUnusable as error:
            self.lack = str(error)

    def tidy(self) -> Tidied:
        """Delete a bounded part of what need not be kept."""
        try:
            done = self._store.tidy(self._clock.wall_us())
        except StoreUnusable as error:
            self.lack = str(error)
            return NothingTidied()
        self.counters["pruned_read"] += done.read
        self.counters["pruned_unread"] += done.unread
        self.counters["consumers_forgotten"] += len(done.forgotten)
        return done

    def status(self, asked: StatusAsked) -> Told:
        """Figures for people."""
        try:
            figures: dict[str, Any] = self._store.status()
        except StoreUnusable as error:
            figures = {}
            self.lack = str(error)
        return Told(asked.request, {**figures, "lack": self.lack, "counters": dict(self.counters)})

    @property
    def has_news(self) -> bool:
        """Whether something was added since `take_news`."""
        return bool(self._advanced)

    def take_news(self) -> JournalFacts | None:
        """What was added since last asked: the doorbell; None when nothing was."""
        if not self._advanced:
            return None
        signals, self._advanced = sorted(self._advanced), set()
        shown = signals if len(signals) <= _MAX_RUNG_SIGNALS else ["*"]
        return JournalFacts(journal=self._store.journal, offset=self._end, signals=shown)

    def _wrong(self, request: Append) -> str | None:
        if not 0 < len(request.entries) <= MAX_ENTRIES:
            return f"an append has 1 to {MAX_ENTRIES} entries"
        return next((wrong for entry in request.entries if (wrong := objection(entry, MAX_MESSAGE_BYTES))), None)

    def _commit(self, entries: list[Entry]) -> list[tuple[int, bool]] | None:
        if not entries:
            return []
        try:
            placed = self._store.append(entries, self._clock.wall_us())
        except StoreUnusable as error:
            self.lack = str(error)
            return None
        self.lack = None
        self.counters["commits"] += 1
        return placed

    def _note(self, entries: list[Entry], placed: list[tuple[int, bool]], heard_from: int) -> None:
        for index, ((_, signal, body), (offset, is_new)) in enumerate(zip(entries, placed, strict=True)):
            if not is_new:
                self.counters["repeated"] += 1
                continue
            self.counters["appended"] += 1
            self._advanced.add(signal)
            self._end = max(self._end, offset)
            if index < heard_from:
                self._unforwarded.append((signal, body, offset))
