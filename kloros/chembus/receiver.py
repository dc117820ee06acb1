"""The hearing half of every bus, short of the socket: wanted or not, valid or not, what is missing before it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from kloros.chembus import seqs
from kloros.chembus.bus import BusCounters, Loss, Refusal
from kloros.chembus.declaration import Signal, Vocabulary
from kloros.chembus.envelope import (
    MAX_MESSAGE_BYTES,
    MAX_TOPIC_BYTES,
    SCHEMA_VERSION,
    Message,
    RefusalReason,
    Refused,
    codec_for,
    explain,
    loose_seq,
    printable,
)
from kloros.chembus.incarnation import parse_pub, this_boot
from kloros.chembus.join import JOIN_PREFIX
from kloros.clock import Clock
from kloros.errors import UnknownSignal
from kloros.units import seconds_to_us

HEARTBEAT = "HEARTBEAT"
_DECODE_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)
_MAX_ROUTES = 32_768
_MAX_LOSSES = 1024
_KEPT_REFUSALS = 64


class _Route:
    """What a receiver knows about one topic."""

    __slots__ = ("decode", "lifespan_s", "name", "reconciles", "wanted")

    def __init__(self, name: str, signal: Signal | None, wanted: bool) -> None:
        self.name = name
        self.wanted = wanted
        self.decode: Callable[[Any], Message] = codec_for(signal.facts if signal else None).decode
        self.lifespan_s = signal.lifespan_s if signal else None
        self.reconciles = name == HEARTBEAT


class Receiver:
    """Takes frames, gives messages; counts what it will not take and what never came."""

    def __init__(
        self,
        *,
        clock: Clock,
        vocabulary: Vocabulary,
        counters: BusCounters,
        open_facts: bool = False,
        seq_limit: int = 65_536,
    ) -> None:
        """`open_facts` takes signals outside the vocabulary too, with any facts."""
        self._clock = clock
        self._vocabulary = vocabulary
        self._counters = counters
        self._open_facts = open_facts
        self._tracker = seqs.SeqTracker(seq_limit)
        self._subscriptions: dict[str, int | None] = {}  # topic -> monotonic us since when it is certain
        self._prefixes: tuple[str, ...] = ()
        self._routes: dict[bytes, _Route] = {}
        self._losses: dict[tuple[Literal["gap", "drop"], str, str], Loss] = {}
        self.recent_refusals: deque[Refusal] = deque(maxlen=_KEPT_REFUSALS)
        self.numbers_journaled = True
        """Whether a hole before a message that has an offset is a gap: not for who passes such messages over."""
        self._now_s = 0.0
        self.begin_batch()

    def begin_batch(self) -> None:
        """Read the clock once for the messages that follow."""
        self._now_s = self._clock.wall_us() / 1e6

    def subscribe(self, topic: str) -> bool:
        """Want a topic; a trailing `*` wants a prefix. Whether that is news."""
        self._routes.clear()
        news = topic not in self._subscriptions
        self._subscriptions.setdefault(topic, None)
        self._note_prefixes()
        return news

    def unsubscribe(self, topic: str) -> bool:
        """Want it no longer; whether it was wanted."""
        self._routes.clear()
        was_wanted = self._subscriptions.pop(topic, 0) != 0
        self._note_prefixes()
        return was_wanted

    def confirm(self) -> None:
        """Every subscription so far is known to work from now on."""
        now_us = seconds_to_us(self._clock.monotonic_s())
        self._subscriptions = {
            topic: now_us if since is None else since for topic, since in self._subscriptions.items()
        }

    def accept(self, topic: bytes, body: Any) -> Message | None:
        """The message in these two frames; None when it is not wanted, not new, or refused (counted)."""
        route = self._routes.get(topic) or self._open_route(topic)
        if route is None or not (route.wanted or route.reconciles):
            return None
        if len(body) > MAX_MESSAGE_BYTES:
            self.refuse(RefusalReason.OVERSIZE, topic, f"{len(body)} bytes")
            return None
        try:
            message = route.decode(body)
        except _DECODE_ERRORS as error:
            self._refuse_undecoded(route, topic, bytes(body), error)
            return None
        if message.signal != route.name:
            self.refuse(RefusalReason.WRONG_TOPIC, topic, f"the message says {message.signal!r:.80}")
            return None
        pub, seq = message.pub, message.seq
        if pub is not None and seq is not None and (self.numbers_journaled or message.offset is None):
            missing = self._tracker.observe(pub, route.name, seq)
            if missing and self._account(pub, route.name, seq, missing):
                return None
        if message.schema_version != SCHEMA_VERSION:
            self.refuse(RefusalReason.SCHEMA_VERSION, topic, f"{message.schema_version}, not {SCHEMA_VERSION}")
            return None
        if route.lifespan_s is not None and self._now_s - message.ts > route.lifespan_s:
            self.refuse(RefusalReason.STALE, topic, f"{self._now_s - message.ts:.1f} s old")
            return None
        if pub is None or seq is None:
            self._counters.legacy += route.wanted
        elif route.reconciles:
            self._reconcile(pub, message.facts)
        return message if route.wanted else None

    def refuse(self, reason: RefusalReason, topic: bytes, detail: str) -> None:
        """Count a message that is not one, and keep what it was."""
        self._counters.refused[reason] += 1
        self.recent_refusals.append(Refusal(reason, printable(topic), detail, seconds_to_us(self._now_s)))

    def note_loss(self, kind: Literal["gap", "drop"], signal: str, pub: str, missing: int) -> None:
        """Count messages that are lost, and keep them for `take_losses`."""
        if kind == "gap":
            self._counters.gap += missing
        else:
            self._counters.drop += missing
        key = (kind, signal, pub)
        if len(self._losses) >= _MAX_LOSSES and key not in self._losses:
            key = (kind, "*", "*")
        known = self._losses.get(key)
        since_us = known.since_us if known else seconds_to_us(self._now_s)
        self._losses[key] = Loss(kind, key[1], key[2], missing + (known.missing if known else 0), since_us)

    def take_losses(self) -> list[Loss]:
        """Losses since last asked."""
        losses = list(self._losses.values())
        self._losses.clear()
        return losses

    def _open_route(self, topic: bytes) -> _Route | None:
        if topic.startswith(JOIN_PREFIX):
            return None
        if len(topic) > MAX_TOPIC_BYTES:
            self.refuse(RefusalReason.OVERSIZE, topic, f"a topic of {len(topic)} bytes")
            return None
        try:
            name = topic.decode()
        except UnicodeDecodeError:
            self.refuse(RefusalReason.WRONG_TOPIC, topic, "not UTF-8")
            return None
        wanted = self._heard(name)
        try:
            signal: Signal | None = self._vocabulary.lookup(name)
        except UnknownSignal as error:
            if wanted and not self._open_facts:
                self.refuse(RefusalReason.UNKNOWN_SIGNAL, topic, str(error)[:200])
                return None
            signal = None
        if len(self._routes) >= _MAX_ROUTES:
            self._routes.clear()
        route = self._routes[topic] = _Route(name, signal, wanted)
        return route

    def _note_prefixes(self) -> None:
        self._prefixes = tuple(topic[:-1] for topic in self._subscriptions if topic.endswith("*"))

    def _heard(self, name: str) -> bool:
        return name in self._subscriptions or name.startswith(self._prefixes)

    def _account(self, pub: str, signal: str, seq: int, missing: int) -> bool:
        """Deal with a sequence number that is not simply the next; True when the message is a duplicate."""
        if missing == seqs.DUPLICATE:
            self._counters.duplicate += 1
            return True
        if missing == seqs.FIRST_SEEN:
            missing = self._tracker.begin(pub, signal, seq, from_one=self._from_one(pub, signal))
            self._counters.forgotten = self._tracker.forgotten
        if missing:
            self.note_loss("gap", signal, pub, missing)
        return False

    def _reconcile(self, pub: str, facts: Any) -> None:
        for signal, sent in facts.sent.items():
            # A scheduler's heartbeat names thousands of signals, nearly all of them complete: those must cost little.
            if self._tracker.has_reached(pub, signal, sent) or signal == HEARTBEAT or not self._heard(signal):
                continue
            missing = self._tracker.reconcile(pub, signal, sent, from_one=self._from_one(pub, signal))
            if missing:
                self.note_loss("gap", signal, pub, missing)

    def _from_one(self, pub: str, signal: str) -> bool:
        """Whether we were certain to hear that signal before that publisher started."""
        start = parse_pub(pub)
        if start is None or start.boot != this_boot():
            return False
        return any(
            since_us is not None and since_us < start.started_us
            for topic, since_us in self._subscriptions.items()
            if topic == signal or (topic[-1:] == "*" and signal.startswith(topic[:-1]))
        )

    def _refuse_undecoded(self, route: _Route, topic: bytes, body: bytes, error: Exception) -> None:
        refused: Refused = explain(body, error)
        self.refuse(refused.reason, topic, refused.detail)
        numbered = loose_seq(body, route.name)
        if numbered is not None:  # it did arrive: it must not be counted as a gap too
            pub, seq = numbered
            missing = self._tracker.observe(pub, route.name, seq)
            if missing:
                self._account(pub, route.name, seq, missing)
