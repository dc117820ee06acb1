"""A bounded queue between the bus and one handler, with the thread that runs the handler."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from kloros.telemetry.logs import get_logger

OnJson = Callable[[dict[str, Any]], None]
_CLOSE_WAITS_S = 2.0

_decode: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(dict[str, Any]).decode


class Inbox:
    """Hands messages to `on_json`, one at a time and in order. What does not fit is dropped and counted by signal."""

    def __init__(self, on_json: OnJson, limit: int, name: str) -> None:
        self.handled = 0
        self.failed = 0
        self.dropped = 0
        self._on_json = on_json
        self._limit = limit
        self._queue: deque[bytes] = deque()
        self._drops: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._stopped = False
        self._log = get_logger(zooid=name)
        self._thread = threading.Thread(target=self._run, name=f"chem-sub {name}", daemon=True)
        self._thread.start()

    def offer(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Queue messages, each a signal and its JSON; never waits."""
        with self._changed:
            for signal, body in messages:
                if len(self._queue) < self._limit:
                    self._queue.append(body)
                else:
                    self.dropped += 1
                    self._drops[signal] += 1
            self._changed.notify()

    def take_drops(self) -> dict[str, int]:
        """How many were dropped per signal since last asked."""
        with self._changed:
            drops, self._drops = dict(self._drops), Counter()
        return drops

    def stop(self) -> None:
        """Handle nothing more; what is queued is forgotten. Safe from any thread, the handler's own included."""
        with self._changed:
            self._stopped = True
            self._queue.clear()
            self._changed.notify()

    def join(self) -> None:
        """Wait for the handler that runs, at most two seconds, unless it is itself that asks."""
        if threading.current_thread() is not self._thread:
            self._thread.join(_CLOSE_WAITS_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    return
                body = self._queue.popleft()
            self._handle(body)

    def _handle(self, body: bytes) -> None:
        try:
            self._on_json(_decode(body))
        except Exception as error:  # noqa: BLE001 - whatever a user's handler raises, the next message is handled
            self.failed += 1
            self._log.error("handler_failed", error=repr(error))
        self.handled += 1
