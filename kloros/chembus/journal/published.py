"""Which of the messages that have an offset the journal itself has published: anyone may write one."""

from __future__ import annotations

import threading

# As many as may be on their way through all queues between the journal and whoever asks.
MOST_ON_THE_WAY = 1 << 17


class Published:
    """What the journal has published and who looks on has not recognised yet. Safe from any thread."""

    def __init__(self, most: int = MOST_ON_THE_WAY) -> None:
        """At most `most` are known; beyond that the oldest, which have been lost on the way, are strangers."""
        self._most = most
        self._lock = threading.Lock()
        self._hashes: dict[int, None] = {}

    def note(self, body: bytes) -> None:
        """This is about to be published."""
        with self._lock:
            self._hashes[hash(body)] = None
            if len(self._hashes) > self._most:
                del self._hashes[next(iter(self._hashes))]

    def recognise(self, body: bytes) -> bool:
        """Whether the journal has published this; the same again is somebody else's."""
        with self._lock:
            return self._hashes.pop(hash(body), False) is None
