"""What is said between the journal and its clients: a verb of one byte, and a MessagePack array."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from kloros.chembus.envelope import MAX_TOPIC_BYTES
from kloros.chembus.journal.contract import MAX_SIGNALS, Appended, Entry, NotKept, Page, Told

JOURNAL_VERSION: Final = 1
Offset = Annotated[int, Meta(ge=0, le=2**53)]
Name = Annotated[str, Meta(max_length=MAX_TOPIC_BYTES)]
Names = Annotated[list[Name], Meta(max_length=MAX_SIGNALS)]
APPEND: Final = b"A"
FETCH: Final = b"F"
COMMITTED: Final = b"C"
STATUS: Final = b"S"
APPENDED: Final = b"a"
FETCHED: Final = b"f"
REFUSED: Final = b"r"
TOLD: Final = b"s"

VERBS = {
    APPEND: "APPEND: request, [[id, signal, body], ...]. Answered by APPENDED once they are on disk, or by REFUSED.",
    FETCH: "FETCH: request, consumer, [signal or prefix*, ...], journal, after, limit. Answered by FETCHED.",
    COMMITTED: "COMMITTED: consumer, [signal, ...], journal, offset. Not answered.",
    STATUS: "STATUS: request. Answered by TOLD.",
    APPENDED: "APPENDED: request, [offset, ...].",
    FETCHED: "FETCHED: request, journal, [[offset, signal, body], ...], next_after, end, missing.",
    REFUSED: "REFUSED: request, reason (`disk`: try again; `bad`: never), detail.",
    TOLD: "TOLD: request, {figure: value}.",
}


class Append(msgspec.Struct, array_like=True, frozen=True):
    """See VERBS."""

    request: int
    entries: list[Entry]


class Fetch(msgspec.Struct, array_like=True, frozen=True):
    """See VERBS."""

    request: int
    consumer: Name
    signals: Names
    journal: str
    after: Offset
    limit: int


class Committed(msgspec.Struct, array_like=True, frozen=True):
    """See VERBS."""

    consumer: Name
    signals: Names
    journal: str
    offset: Offset


class StatusAsked(msgspec.Struct, array_like=True, frozen=True):
    """See VERBS."""

    request: int


encode = msgspec.msgpack.Encoder().encode
_DECODERS: dict[bytes, msgspec.msgpack.Decoder[Any]] = {
    verb: msgspec.msgpack.Decoder(shape)
    for verb, shape in (
        (APPEND, Append),
        (FETCH, Fetch),
        (COMMITTED, Committed),
        (STATUS, StatusAsked),
        (APPENDED, Appended),
        (FETCHED, Page),
        (REFUSED, NotKept),
        (TOLD, Told),
    )
}
_ANSWERS: dict[type, bytes] = {Appended: APPENDED, Page: FETCHED, NotKept: REFUSED, Told: TOLD}


def decode(verb: bytes, payload: bytes) -> Any:
    """What was said.

    Raises:
        msgspec.MsgspecError: It is nothing that is said here.
    """
    decoder = _DECODERS.get(verb)
    if decoder is None:
        raise msgspec.ValidationError(f"unknown verb {verb[:8]!r}")
    try:
        return decoder.decode(payload)
    except RecursionError as error:  # also of a surplus element, which is read only to be passed over
        raise msgspec.ValidationError(str(error)) from None


def verb_of(answer: Appended | Page | NotKept | Told) -> bytes:
    """The verb of an answer."""
    return _ANSWERS[type(answer)]
