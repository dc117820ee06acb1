"""Names in the order in which they are due. Pure."""

from __future__ import annotations

import heapq

# A name that is placed anew leaves its old place in the heap behind; the stale places are swept beyond this many.
_PLACES_PER_NAME = 4
_PLACES_AT_LEAST = 64


class DueQueue:
    """Earliest first, then highest priority, then by name. Placing costs O(log n), whatever was placed before."""

    def __init__(self) -> None:
        self._due_us: dict[str, tuple[int, int]] = {}
        self._heap: list[tuple[int, int, str]] = []

    def place(self, name: str, due_us: int, priority: int = 0) -> None:
        """Put `name` at `due_us`, taking it away from where it was."""
        self._due_us[name] = (due_us, -priority)
        heapq.heappush(self._heap, (due_us, -priority, name))
        if len(self._heap) > _PLACES_PER_NAME * len(self._due_us) + _PLACES_AT_LEAST:
            self._heap = [(due, rank, name) for name, (due, rank) in self._due_us.items()]
            heapq.heapify(self._heap)

    def remove(self, name: str) -> None:
        """Take `name` out, if it is there."""
        self._due_us.pop(name, None)

    def due_us(self, name: str) -> int | None:
        """Where `name` stands."""
        place = self._due_us.get(name)
        return place and place[0]

    def first_due_us(self) -> int | None:
        """When the first name is due."""
        self._sweep_head()
        return self._heap[0][0] if self._heap else None

    def take(self, now_us: int) -> str | None:
        """Take out the first name that is due up to now."""
        self._sweep_head()
        if not self._heap or self._heap[0][0] > now_us:
            return None
        name = heapq.heappop(self._heap)[2]
        del self._due_us[name]
        return name

    def _sweep_head(self) -> None:
        while self._heap and self._due_us.get(self._heap[0][2]) != self._heap[0][:2]:
            heapq.heappop(self._heap)
