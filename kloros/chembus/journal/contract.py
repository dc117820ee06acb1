"""The journal of durable signals, as its clients and its keeper see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import msgspec

from kloros.chembus.envelope import MAX_TOPIC_BYTES

JOURNAL_SOCKET = "bus.journal"
MAX_ENTRIES = 1_000  # of one append
MAX_ROWS = 5_000  # of one page
MAX_PAGE_BYTES = 2 << 20
MAX_SIGNALS = 500  # that a consumer names; SQLite takes an expression of a thousand
MAX_ID_CHARS = 256
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode_fields = msgspec.json.Encoder().encode
_OFFSET = b',"offset":'
_OFFSET_BYTES = 32  # at the end of an envelope, where `with_offset` puts it


class Entry(NamedTuple):
    """A durable signal on its way to the journal. The same `id` again is the same entry."""

    id: str
    signal: str
    body: bytes


Row: TypeAlias = tuple[int, str, bytes]


class Appended(msgspec.Struct, array_like=True, frozen=True):
    """The entries are on disk, at these offsets."""

    request: int
    offsets: list[int]


class NotKept(msgspec.Struct, array_like=True, frozen=True):
    """The journal would not do it. `disk`: it may later; `bad`: it never will."""

    request: int
    reason: str
    detail: str


class Page(msgspec.Struct, array_like=True, frozen=True):
    """Part of the journal: `rows` are (offset, signal, body), and they are all that was asked for up to `next_after`.

    `journal` names this one, which begins anew when its file is lost. `end` is its last offset. `missing` offsets
    after the place asked for are no longer kept.
    """

    request: int
    journal: str
    rows: list[Row]
    next_after: int
    end: int
    missing: int


class Told(msgspec.Struct, array_like=True, frozen=True):
    """How the journal is."""

    request: int
    status: dict[str, Any]


Answer: TypeAlias = Appended | NotKept | Page | Told


class Journal(Protocol):
    """A client's connection to the journal. Belongs to one thread; never waits.

    What is asked is asked again until it is answered: all of it may be repeated without harm.
    """

    def append(self, entries: Sequence[Entry], done: Callable[[Appended | NotKept], None]) -> None:
        """Keep them, in this order; `done` is called in a later `turn`. All are kept, or none."""

    def fetch(
        self, consumer: str, signals: Sequence[str], journal: str, after: int, limit: int, done: Callable[[Page], None]
    ) -> None:
        """At most `limit` of `signals` (a trailing `*` is a prefix) with an offset above `after`.

        A page of another `journal` than the one named has no rows: look up the place in that one first.
        """

    def status(self, done: Callable[[Told], None]) -> None:
        """Ask for the journal's figures."""

    def committed(self, consumer: str, signals: Sequence[str], journal: str, offset: int) -> None:
        """Say that everything up to `offset` has had its effect. Advice: it may be lost."""

    def turn(self) -> None:
        """Take answers, and ask again what was not answered."""

    def next_due_s(self) -> float | None:
        """When `turn` wants to be called, on the monotonic clock, if nothing arrives; None: not at all."""

    def pollables(self) -> Sequence[Any]:
        """What a Poller waits on; when any is ready, call `turn`."""

    def close(self) -> None:
        """Forget everything not answered."""


class Tidied(Protocol):
    """What was let go: entries that every known consumer had read, others, and consumers that stayed away."""

    @property
    def read(self) -> int: ...

    @property
    def unread(self) -> int: ...

    @property
    def forgotten(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class NothingTidied:
    """There was nothing to let go."""

    read: int = 0
    unread: int = 0
    forgotten: tuple[str, ...] = ()


class JournalStore(Protocol):
    """Where a journal is kept. Its keeper is its only user.

    Every method raises StoreUnusable when the disk refuses.
    """

    @property
    def journal(self) -> str:
        """The name of this journal, random; another one when it was lost and began anew."""

    def append(self, entries: Sequence[tuple[str, str, bytes]], now_us: int) -> list[tuple[int, bool]]:
        """Keep (id, signal, body), on the platter; the offset of each and whether it is new."""

    def read(self, signals: Sequence[str], after: int, limit: int, limit_bytes: int) -> tuple[list[Row], int]:
        """Rows above `after`, and up to where they are all."""

    def bounds(self) -> tuple[int, int]:
        """The last offset that is no longer kept, and the last one given."""

    def note_consumer(self, name: str, signals: Sequence[str], offset: int | None, now_us: int) -> None:
        """That consumer was here; `offset` is how far it is, None: it did not say."""

    def tidy(self, now_us: int) -> Tidied:
        """Delete a bounded part of what need not be kept."""

    def status(self) -> dict[str, Any]:
        """Figures for people."""

    def close(self) -> None:
        """Let go of it."""


def with_offset(body: bytes, offset: int) -> bytes:
    """An envelope that says where it is in the journal."""
    return b'%b,"offset":%d}' % (body.rstrip()[:-1].rstrip(), offset)


def has_offset(body: bytes) -> bool:
    """Whether this envelope has an offset where the journal writes it. A cheap look, which passes strangers' too."""
    return _OFFSET in body[-_OFFSET_BYTES:]


def without_offset(body: bytes) -> bytes:
    """An envelope, every other byte of its fields as it was, that somebody has heard and passes on.

    Raises:
        msgspec.MsgspecError: It is no JSON object.
    """
    fields = _decode_fields(body)
    fields.pop("offset", None)
    return _encode_fields(fields)


def objection(entry: Entry, limit_bytes: int) -> str | None:
    """Why this can be no entry, or None."""
    if not 0 < len(entry.id) <= MAX_ID_CHARS:
        return f"an id has 1 to {MAX_ID_CHARS} characters"
    if not entry.signal:
        return "it names no signal"
    if len(entry.signal.encode(errors="surrogatepass")) > MAX_TOPIC_BYTES:
        return f"the name of a signal has at most {MAX_TOPIC_BYTES} bytes"
    if len(entry.body) > limit_bytes:
        return f"{entry.signal} of {len(entry.body)} bytes; a message may be at most {limit_bytes}"
    body = entry.body.strip()
    if not (body.startswith(b"{") and body.endswith(b"}") and b":" in body):
        return f"{entry.signal} is not a JSON object"
    return None
