"""A journal inside one process: for tests and simulations."""

from __future__ import annotations

import os
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from kloros.chembus.journal import wire
from kloros.chembus.journal.contract import Appended, Entry, NothingTidied, NotKept, Page, Row, Tidied, Told
from kloros.chembus.journal.keeper import JournalKeeper
from kloros.clock import Clock
from kloros.errors import StoreUnusable

_RETRY_S = 0.1


class MemoryJournalStore:
    """A JournalStore (see there) in memory. Set `lack` to play a full disk."""

    def __init__(self) -> None:
        self.lack: str | None = None
        self.consumers: dict[str, int] = {}
        self._journal = secrets.token_hex(8)
        self._rows: list[tuple[str, bytes]] = []
        self._offsets: dict[str, int] = {}

    @property
    def journal(self) -> str:
        return self._journal

    def append(self, entries: Sequence[tuple[str, str, bytes]], now_us: int) -> list[tuple[int, bool]]:
        if self.lack:
            raise StoreUnusable(path="memory", reason=self.lack)
        placed = []
        for message_id, signal, body in entries:
            is_new = message_id not in self._offsets
            if is_new:
                self._rows.append((signal, body))
                self._offsets[message_id] = len(self._rows)
            placed.append((self._offsets[message_id], is_new))
        return placed

    def read(self, signals: Sequence[str], after: int, limit: int, limit_bytes: int) -> tuple[list[Row], int]:
        rows: list[Row] = []
        for offset in range(after + 1, len(self._rows) + 1):
            signal, body = self._rows[offset - 1]
            if any(signal == name or (name[-1:] == "*" and signal.startswith(name[:-1])) for name in signals):
                rows.append((offset, signal, body))
                if len(rows) == limit:
                    return rows, offset
        return rows, max(after, len(self._rows))

    def bounds(self) -> tuple[int, int]:
        return 0, len(self._rows)

    def note_consumer(self, name: str, signals: Sequence[str], offset: int | None, now_us: int) -> None:
        self.consumers[name] = self.consumers.get(name, 0) if offset is None else offset

    def tidy(self, now_us: int) -> Tidied:
        return NothingTidied()

    def status(self) -> dict[str, Any]:
        return {"journal": self._journal, "end_offset": len(self._rows), "consumers": dict(self.consumers)}

    def close(self) -> None:
        """There is nothing to let go of."""


class Reachable(Protocol):
    """What may be away: a hub."""

    up: bool


class MemoryJournalClient:
    """A Journal (see there) on a keeper in the same process. Answers come in the next `turn`."""

    def __init__(self, keeper: JournalKeeper, hub: Reachable, clock: Clock, told: Callable[[], None]) -> None:
        """`told` is called after something was kept."""
        self._keeper, self._hub, self._clock, self._told = keeper, hub, clock, told
        self._pending: deque[Callable[[], bool]] = deque()
        self._retry_s: float | None = None
        self._read_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._closed = False

    def append(self, entries: Sequence[Entry], done: Callable[[Appended | NotKept], None]) -> None:
        def ask() -> bool:
            (answer,) = self._keeper.append([wire.Append(0, list(entries))])
            self._told()
            done(answer)
            return True

        self._ask(ask)

    def fetch(
        self, consumer: str, signals: Sequence[str], journal: str, after: int, limit: int, done: Callable[[Page], None]
    ) -> None:
        def ask() -> bool:
            answer = self._keeper.fetch(wire.Fetch(0, consumer, list(signals), journal, after, limit))
            if isinstance(answer, NotKept):
                return False
            done(answer)
            return True

        self._ask(ask)

    def status(self, done: Callable[[Told], None]) -> None:
        def ask() -> bool:
            done(self._keeper.status(wire.StatusAsked(0)))
            return True

        self._ask(ask)

    def committed(self, consumer: str, signals: Sequence[str], journal: str, offset: int) -> None:
        if self._hub.up:
            self._keeper.committed(wire.Committed(consumer, list(signals), journal, offset))

    def turn(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._read_fd, 4096)
        self._retry_s = None
        again: deque[Callable[[], bool]] = deque()
        asked, self._pending = self._pending, again
        for ask in asked:
            if not (self._hub.up and ask()):
                again.append(ask)
                self._retry_s = self._clock.monotonic_s() + _RETRY_S

    def next_due_s(self) -> float | None:
        return self._retry_s

    def pollables(self) -> Sequence[Any]:
        return (self._read_fd,)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._pending.clear()
            os.close(self._read_fd)
            os.close(self._write_fd)

    def _ask(self, ask: Callable[[], bool]) -> None:
        self._pending.append(ask)
        with suppress(BlockingIOError):
            os.write(self._write_fd, b"\0")
