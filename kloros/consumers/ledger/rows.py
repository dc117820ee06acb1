"""The ledger's arithmetic: one canonical spelling, signatures, and rows that each name the one before.

Pure: no clock, socket, file or logger. A row's body says its own number and the hash of the row before it; its
signature is an HMAC-SHA-256 over the body; its hash covers both. So a row that was changed, taken out, moved or slipped
in shows, and only who holds the key can write one that does not.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

GENESIS = "0" * 64
"""The hash before the first row."""
_EXACT_INT = 2**53  # up to here a whole number and its float are the same


class NotCanonical(ValueError):
    """A value that has no canonical spelling."""


class Row(NamedTuple):
    """A row as it is stored. `source`, `signal` and `zooid` repeat what the body says, so that they can be searched."""

    seq: int
    source: str
    signal: str
    zooid: str
    body: bytes
    sig: str


class Entry(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="row"):
    """What a row's body says. `source` is the message it came from, `prev` the hash of the row before."""

    seq: int
    prev: str
    source: str
    offset: int | None
    signal: str
    zooid: str
    ts: float
    heard_ts: float
    incident_id: str | None
    facts: Any


class Head(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="head"):
    """Where the ledger ends: its last row, and the segment that is open."""

    seq: int = 0
    hash: str = GENESIS
    segment: int = 1


class Segment(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="segment"):
    """A stretch of the ledger. The last hash of one is the `prev` of the next; the open one has no last row yet. The
    rows of a released one are gone by the rules of retention, but the chain goes through it."""

    number: int = 1
    first_seq: int = 1
    prev: str = GENESIS
    opened_ts: float = 0.0
    last_seq: int | None = None
    last_hash: str | None = None
    sealed_ts: float | None = None
    released_ts: float | None = None


Signable = Entry | Head | Segment


class Signed(NamedTuple):
    """A head or a segment as it is stored."""

    body: bytes
    sig: str


def canonical(value: Any) -> bytes:
    """The one spelling of a JSON value: keys sorted, no spaces, UTF-8. Signer and verifier both use this.

    Raises:
        NotCanonical: The value has no such spelling: a number that is not finite, half a surrogate pair, no JSON.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8")
    except (ValueError, TypeError, RecursionError) as error:
        raise NotCanonical(str(error)[:200]) from None


def signature(key: bytes, body: bytes) -> str:
    """HMAC-SHA-256, in lower-case hexadecimal."""
    return hmac.digest(key, body, "sha256").hex()


def row_hash(body: bytes, sig: str) -> str:
    """What the next row calls `prev`."""
    return hashlib.sha256(body + b"\n" + sig.encode()).hexdigest()


def sign(key: bytes, document: Signable) -> Signed:
    """A document in its stored form. Raises NotCanonical."""
    body = canonical(msgspec.to_builtins(document))
    return Signed(body, signature(key, body))


def append(key: bytes, head: Head, entry: Entry) -> tuple[Row, Head]:
    """The row after `head`, and the head after that. `entry` is numbered and linked here. Raises NotCanonical."""
    entry = msgspec.structs.replace(entry, seq=head.seq + 1, prev=head.hash)
    body, sig = sign(key, entry)
    row = Row(entry.seq, entry.source, entry.signal, entry.zooid, body, sig)
    return row, Head(seq=entry.seq, hash=row_hash(body, sig), segment=head.segment)


def seal(segment: Segment, head: Head, now_ts: float) -> tuple[Segment, Segment, Head]:
    """The open segment closed at `head`, the one that follows it, and the head in that one."""
    sealed = msgspec.structs.replace(segment, last_seq=head.seq, last_hash=head.hash, sealed_ts=now_ts)
    following = Segment(number=segment.number + 1, first_seq=head.seq + 1, prev=head.hash, opened_ts=now_ts)
    return sealed, following, msgspec.structs.replace(head, segment=following.number)


# What zooids sign


def observation_signature(key: bytes, facts: Mapping[str, Any]) -> str:
    """What `sig` of an OBSERVATION must be: the signature over its other facts.

    Absent, null and empty are the same here, and 5 the same as 5.0, because the bus makes no difference between them.
    Raises NotCanonical.
    """
    fields = {name: _plain(value) for name, value in facts.items() if name != "sig" and value not in (None, {})}
    return signature(key, canonical(fields))


def is_signed_by(key: bytes, facts: Mapping[str, Any]) -> bool:
    """Whether `sig` fits the other facts, as we spell them or exactly as they stand (as existing zooids sign)."""
    given = str(facts.get("sig")).encode("utf-8", "replace")
    try:
        ours = observation_signature(key, facts)
        as_it_stands = signature(key, canonical({name: value for name, value in facts.items() if name != "sig"}))
    except NotCanonical:
        return False
    return any(hmac.compare_digest(given, wanted.encode()) for wanted in (ours, as_it_stands))


def _plain(value: Any) -> Any:
    """The value with whole floats as whole numbers, all the way down."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT_INT:
        return int(value)
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
