"""Sequence accounting: which messages of a publisher never came, and which came twice."""

from __future__ import annotations

DUPLICATE = -1
FIRST_SEEN = -2

_Key = tuple[str, str]


class SeqTracker:
    """The last sequence number per (publisher, signal), in a bounded table.

    The table has two generations: a pair that is heard stays in the young one, and one that was not heard while
    the young one filled up is forgotten with the old one. A pair that was forgotten starts anew, without a gap.
    """

    def __init__(self, limit: int = 8192) -> None:
        """At most `limit` pairs are kept."""
        if limit < 2:
            raise ValueError("the table needs room for two pairs")
        self._generation_limit = limit // 2
        self._young: dict[_Key, int] = {}
        self._old: dict[_Key, int] = {}
        self.forgotten = 0

    def observe(self, pub: str, signal: str, seq: int) -> int:
        """Note a message. Returns how many before it are missing, DUPLICATE, or FIRST_SEEN: then call `begin`."""
        key = (pub, signal)
        last = self._young.get(key)
        if last is None:
            last = self._old.pop(key, None)
            if last is None:
                return FIRST_SEEN
            self._remember(key, last)
        if seq <= last:
            return DUPLICATE
        self._young[key] = seq
        return seq - last - 1

    def begin(self, pub: str, signal: str, seq: int, *, from_one: bool) -> int:
        """Note the first message of a pair. Returns how many are missing: those before it when it had to start at 1.

        `from_one`: we were listening before the publisher started. Not believed once pairs were forgotten.
        """
        self._remember((pub, signal), seq)
        return seq - 1 if from_one and not self.forgotten else 0

    def has_reached(self, pub: str, signal: str, seq: int) -> bool:
        """Whether that number, or a later one, was noted lately: then `reconcile` would have nothing to say or do."""
        return self._young.get((pub, signal), 0) >= seq

    def reconcile(self, pub: str, signal: str, sent: int, *, from_one: bool) -> int:
        """The publisher says that `sent` was its last. Returns how many we now know to be missing at the tail."""
        if sent < 1:
            return 0
        missing = self.observe(pub, signal, sent)
        if missing == DUPLICATE:
            return 0
        if missing == FIRST_SEEN:
            return self.begin(pub, signal, sent, from_one=from_one) + (1 if from_one and not self.forgotten else 0)
        return missing + 1

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def _remember(self, key: _Key, seq: int) -> None:
        if len(self._young) >= self._generation_limit:
            self.forgotten += len(self._old)
            self._old = self._young
            self._young = {}
        self._young[key] = seq
