"""What was sent while nobody recorded, from sequence numbers before and after. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kloros.storage.history_rows import Mark


class Absence:
    """The marks of an earlier run, each until its publisher's signal is heard again."""

    def __init__(self, marks: Iterable[Mark]) -> None:
        self._marks = {(mark.pub, mark.signal): mark for mark in marks}
        self._signals: dict[str, set[str]] = {}
        for pub, signal in self._marks:
            self._signals.setdefault(pub, set()).add(signal)

    def __bool__(self) -> bool:
        return bool(self._marks)

    def heard(self, pub: str, signal: str, seq: int) -> tuple[Mark, int] | None:
        """A message of that number came: the mark before it and how many came between, where any did."""
        return self._settle(pub, signal, seq - 1)

    def told(self, pub: str, sent: Mapping[str, int]) -> list[tuple[Mark, int]]:
        """A heartbeat says how many were sent: what of it nobody heard, for signals not heard since."""
        signals = self._signals.get(pub, set()) & sent.keys()
        return [found for signal in sorted(signals) if (found := self._settle(pub, signal, sent[signal]))]

    def _settle(self, pub: str, signal: str, last: int) -> tuple[Mark, int] | None:
        mark = self._marks.pop((pub, signal), None)
        if mark is None:
            return None
        signals = self._signals[pub]
        signals.discard(signal)
        if not signals:
            del self._signals[pub]
        missing = last - mark.seq
        return (mark, missing) if missing > 0 else None
