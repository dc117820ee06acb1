"""Runs the scanners side by side, each in a thread of its own: one that hangs keeps its place and delays nobody."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future, wait

import msgspec

from kloros.consumers.introspection.findings import Symptom
from kloros.consumers.introspection.scanners.base import Now, Scanner
from kloros.errors import CannotObserve
from kloros.machine.names import readable

MAX_SCANNERS = 32
# A message has room for it, whatever else is told with it.
MAX_SYMPTOM_BYTES = 1 << 18


class Sighting(msgspec.Struct, frozen=True):
    """What came of one scanner in one cycle. `lack` is None when it looked; else why it could not."""

    scanner: str
    symptoms: list[Symptom] = []
    lack: str | None = None
    hung: bool = False


class ScannerPool:
    """Scans with all scanners at once; a scanner that is still busy from before is not started again."""

    def __init__(self, scanners: Sequence[Scanner]) -> None:
        if len(scanners) > MAX_SCANNERS:
            raise ValueError(f"{len(scanners)} scanners; at most {MAX_SCANNERS} run side by side")
        self._slots = [_Slot(scanner) for scanner in sorted(scanners, key=lambda scanner: scanner.timeout_s)]

    def scan(self, now: Now) -> list[Sighting]:
        """One sighting per scanner, after at most the longest time-out.

        A scanner that answers after its time-out is not lost: what it saw counts in the next cycle.
        """
        started = [(slot.scanner.timeout_s, answer) for slot in self._slots if (answer := slot.start(now))]
        waited_s = 0.0
        for timeout_s, _ in started:  # shortest first; each wait ends early only when nobody is busy any more
            busy = [answer for _, answer in started if not answer.done()]
            if busy and timeout_s > waited_s:
                wait(busy, timeout=timeout_s - waited_s)
                waited_s = timeout_s
        return [slot.collect() for slot in self._slots]

    def close(self) -> None:
        """Let idle threads end; one that hangs is a daemon thread and ends with the process."""
        for slot in self._slots:
            slot.close()


class _Slot:
    """One scanner, its thread and the scan under way."""

    def __init__(self, scanner: Scanner) -> None:
        self.scanner = scanner
        self._asked: queue.SimpleQueue[tuple[Now, Future[list[Symptom]]] | None] = queue.SimpleQueue()
        self._under_way: Future[list[Symptom]] | None = None
        self._thread: threading.Thread | None = None

    def start(self, now: Now) -> Future[list[Symptom]] | None:
        """Ask for a scan; None when one is still under way, or its late answer not yet taken: nobody waits for that."""
        if self._under_way is not None:
            return None
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"scan-{self.scanner.name}", daemon=True)
            self._thread.start()
        self._under_way = Future()
        self._asked.put((now, self._under_way))
        return self._under_way

    def collect(self) -> Sighting:
        name = self.scanner.name
        if self._under_way is None or not self._under_way.done():
            return Sighting(name, lack=f"no answer within {self.scanner.timeout_s:g} s", hung=True)
        answer, self._under_way = self._under_way, None
        error = answer.exception()
        if error is None:
            return Sighting(name, answer.result())
        if isinstance(error, CannotObserve):
            return Sighting(name, lack=readable(str(error)))
        return Sighting(name, lack=readable(f"scanner failed: {type(error).__name__}: {error}")[:300])

    def close(self) -> None:
        if self._thread is not None:
            self._asked.put(None)
            if self._under_way is None or self._under_way.done():
                self._thread.join()

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            now, answer = asked
            try:
                answer.set_result(_checked(self.scanner.scan(now)))
            except Exception as error:  # noqa: BLE001 - whatever a scanner does, the others go on; it is reported
                answer.set_exception(error)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Symptom]).decode


def _checked(symptoms: list[Symptom]) -> list[Symptom]:
    """The symptoms as they will be kept and told. Raises when they cannot be: it would take the whole cycle along."""
    for symptom in symptoms:
        if len(_encode(symptom)) > MAX_SYMPTOM_BYTES:
            raise ValueError(f"a symptom is longer than {MAX_SYMPTOM_BYTES} bytes")
    return _decode(_encode(symptoms))
