"""The envelope: one message as two frames, the topic and compact JSON (wire schema 1).

Everything here is pure. A codec belongs to one shape of facts and decodes envelope and facts in a single pass.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from math import isfinite
from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta

from kloros.chembus.facts import EpochSeconds, Facts
from kloros.errors import BadFacts, Oversize

SCHEMA_VERSION = 1
MAX_MESSAGE_BYTES = 1 << 20  # refused at emit and at receive
MAX_FRAME_BYTES = 16 << 20  # the proxy hangs up on a peer that sends more
MAX_TOPIC_BYTES = 1024  # as well: every receiver keeps what it heard of each topic
DEFAULT_CHANNEL = "legacy"

Text = Annotated[str, Meta(max_length=1024)]
Seq = Annotated[int, Meta(ge=1, le=2**53)]


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message. `id`, `pub` and `seq` are None in those of old clients.

    `ts` is epoch seconds at emit. `pub` names one run of one publisher; `seq` counts from 1 per publisher and signal.
    `offset` is the place of a durable signal in the journal; None before it is there.
    """

    signal: str
    ecosystem: Text
    intensity: float = 1.0
    facts: Any
    incident_id: Text | None = None
    trace: Text | None = None
    ts: EpochSeconds
    schema_version: int = SCHEMA_VERSION
    channel: Text = DEFAULT_CHANNEL
    id: Text | None = None
    pub: Text | None = None
    seq: Seq | None = None
    offset: Annotated[int, Meta(ge=1)] | None = None


class RefusalReason(StrEnum):
    """Why a receiver would not take a message."""

    NOT_JSON = "not_json"
    WRONG_TYPE = "wrong_type"
    UNKNOWN_SIGNAL = "unknown_signal"
    WRONG_TOPIC = "wrong_topic"
    OVERSIZE = "oversize"
    SCHEMA_VERSION = "schema_version"
    BAD_FACTS = "bad_facts"
    NOT_FINITE = "not_finite"
    BAD_FRAMES = "bad_frames"
    STALE = "stale"


class Refused(Exception):
    """A received message that is not one; the receiver counts it and goes on."""

    def __init__(self, reason: RefusalReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Codec:
    """Encodes and decodes the envelopes of one shape of facts."""

    def __init__(self, facts_type: type[Facts] | None) -> None:
        """`facts_type` None takes any JSON object: for signals outside the vocabulary."""
        self.facts_type = facts_type
        shape: Any = facts_type if facts_type is not None else dict[str, Any]
        name = f"{facts_type.__name__}Message" if facts_type is not None else "OpenMessage"
        self.message_type = cast(
            type[Message],
            msgspec.defstruct(name, [("facts", shape)], bases=(Message,), frozen=True, kw_only=True, gc=False),
        )
        self.decode = msgspec.json.Decoder(self.message_type).decode
        """The bare decoder: raises what msgspec raises; `explain` turns that into a Refused."""

    def facts(self, signal: str, given: Facts | Mapping[str, Any] | None, *, more: bool = False) -> Any:
        """The facts as this codec's shape; with `more` they may have further fields, and are left as they are.

        Raises:
            BadFacts: They have another shape, or a field that the shape does not have.
        """
        shape = self.facts_type
        if shape is None or (more and isinstance(given, Mapping)):
            return dict(given) if isinstance(given, Mapping) else given if given is not None else {}
        if type(given) is shape:
            return given
        if isinstance(given, Mapping):
            unknown = [str(key) for key in given if key not in shape.__struct_fields__]
            if unknown:
                fields = ", ".join(shape.__struct_fields__) or "none"
                raise BadFacts(signal=signal, detail=f"unknown {', '.join(unknown)} (known: {fields})")
        elif given is not None:
            raise BadFacts(signal=signal, detail=f"{type(given).__name__} instead of {shape.__name__}")
        try:
            return msgspec.convert(given or {}, shape)
        except (msgspec.ValidationError, UnicodeError, RecursionError) as error:
            raise BadFacts(signal=signal, detail=_sentence(error)) from None

    def encode(self, message: Message) -> bytes:
        """The message as the second frame, checked by the receiver's own decoder.

        Raises:
            BadFacts: A receiver would refuse it.
            Oversize: It is longer than MAX_MESSAGE_BYTES.
        """
        try:
            body = _encode(message)
            if body.endswith(_NO_OFFSET):
                body = body[: -len(_NO_OFFSET)] + b"}"
            if len(body) > MAX_MESSAGE_BYTES:
                raise Oversize(signal=message.signal, size_bytes=len(body), limit_bytes=MAX_MESSAGE_BYTES)
            self.decode(body)
        except (msgspec.MsgspecError, TypeError, ValueError, RecursionError, OverflowError) as error:
            # A number that is not finite becomes null, which the decoder may or may not complain about.
            detail = not_finite_path(message) or _sentence(error)
            raise BadFacts(signal=message.signal, detail=detail) from None
        expected_nulls = (message.incident_id is None) + (message.trace is None)
        if body.count(b"null") != expected_nulls and (path := not_finite_path(message)):
            raise BadFacts(signal=message.signal, detail=path)
        return body


_encode = msgspec.json.Encoder().encode
_NO_OFFSET = b',"offset":null}'  # only the journal gives an offset: other messages do not speak of one


@lru_cache(maxsize=256)
def codec_for(facts_type: type[Facts] | None) -> Codec:
    """The one codec of that shape."""
    return Codec(facts_type)


def decode(topic: bytes, body: bytes, facts_type: type[Facts] | None) -> Message:
    """Both frames as a message.

    Raises:
        Refused: They are not one; nothing else is ever raised.
    """
    if len(body) > MAX_MESSAGE_BYTES:
        raise Refused(RefusalReason.OVERSIZE, f"{len(body)} bytes")
    try:
        message = codec_for(facts_type).decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
        raise explain(body, error) from None
    if message.signal.encode(errors="surrogatepass") != topic:
        raise Refused(RefusalReason.WRONG_TOPIC, f"{message.signal!r} under topic {printable(topic)}")
    if message.schema_version != SCHEMA_VERSION:
        raise Refused(RefusalReason.SCHEMA_VERSION, f"{message.schema_version}, not {SCHEMA_VERSION}")
    return message


class _Loose(msgspec.Struct):
    signal: Any = None
    schema_version: Any = SCHEMA_VERSION
    pub: Any = None
    seq: Any = None


_decode_loosely = msgspec.json.Decoder(_Loose).decode
_NOT_FINITE_TOKEN = re.compile(rb"[:,\[]\s*-?(?:NaN|Infinity)")


def explain(body: bytes, error: Exception) -> Refused:
    """Name the reason why `body` could not be decoded. For the rare bad message only: it reads the body again."""
    detail = _sentence(error)
    if not isinstance(error, msgspec.ValidationError):
        if isinstance(error, msgspec.DecodeError) and _NOT_FINITE_TOKEN.search(body):
            return Refused(RefusalReason.NOT_FINITE, detail)
        return Refused(RefusalReason.NOT_JSON, detail)
    if "out of range" in detail:
        return Refused(RefusalReason.NOT_FINITE, detail)
    loose = _loosely(body)
    if loose is not None and loose.schema_version != SCHEMA_VERSION:
        return Refused(RefusalReason.SCHEMA_VERSION, f"{loose.schema_version!r:.40}, not {SCHEMA_VERSION}")
    reason = RefusalReason.BAD_FACTS if "`$.facts" in detail else RefusalReason.WRONG_TYPE
    return Refused(reason, detail)


def loose_seq(body: bytes, signal: str) -> tuple[str, int] | None:
    """Publisher and sequence number of a message that was refused, where it has them."""
    loose = _loosely(body)
    if loose is None or loose.signal != signal:
        return None
    if isinstance(loose.pub, str) and len(loose.pub) <= 1024 and type(loose.seq) is int and 1 <= loose.seq <= 2**53:
        return loose.pub, loose.seq
    return None


def _loosely(body: bytes) -> _Loose | None:
    try:
        return _decode_loosely(body)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
        return None


def not_finite_path(message: Message) -> str | None:
    """Where the message holds a number that JSON cannot write, in words; None when nowhere."""
    stack: list[tuple[str, Any]] = [("intensity", message.intensity), ("ts", message.ts), ("facts", message.facts)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, float):
            if not isfinite(value):
                return f"{path} is {value}, which JSON cannot carry"
        elif isinstance(value, msgspec.Struct):
            stack.extend((f"{path}.{name}", getattr(value, name)) for name in value.__struct_fields__)
        elif isinstance(value, Mapping):
            stack.extend((f"{path}.{key}", item) for key, item in value.items())
        elif isinstance(value, (list, tuple, set, frozenset)):
            stack.extend((f"{path}[{index}]", item) for index, item in enumerate(value))
    return None


def printable(topic: bytes, limit: int = 80) -> str:
    """A topic of any bytes, safe to log."""
    return repr(topic[:limit].decode("utf-8", "backslashreplace"))


def _sentence(error: Exception) -> str:
    return str(error)[:200]
