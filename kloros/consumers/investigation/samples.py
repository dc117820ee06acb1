"""What was on each disk when it was last looked at, to tell what grew since. Read and written by investigators."""

from __future__ import annotations

import threading

import msgspec

MAX_MOUNTS = 32
MAX_DIRECTORIES = 200


class Sample(msgspec.Struct, frozen=True):
    """One look at one file system: bytes by directory."""

    taken_us: int
    directories: dict[str, int]


class Samples:
    """The last look at each mount."""

    def __init__(self, known: dict[str, Sample] | None = None) -> None:
        self._lock = threading.Lock()
        self._known = dict(known or {})

    def swap(self, mount: str, sample: Sample) -> Sample | None:
        """Keep the new one, return the one before."""
        with self._lock:
            before = self._known.pop(mount, None)
            self._known[mount] = sample
            while len(self._known) > MAX_MOUNTS:
                self._known.pop(next(iter(self._known)))
            return before

    def snapshot(self) -> dict[str, Sample]:
        """To be saved."""
        with self._lock:
            return dict(self._known)


def growth(before: dict[str, int], now: dict[str, int]) -> list[tuple[str, int]]:
    """(directory, bytes) of what grew, most first; of a directory and one inside it that grew as much, the inner."""
    grown = {path: size - before.get(path, 0) for path, size in now.items() if size > before.get(path, 0)}
    telling = {
        path: size
        for path, size in grown.items()
        if not any(
            inner != path and inner.startswith(path.rstrip("/") + "/") and other >= 0.8 * size
            for inner, other in grown.items()
        )
    }
    return sorted(telling.items(), key=lambda item: -item[1])


def telling_directory(directories: list[tuple[str, int]], root: str) -> tuple[str, int] | None:
    """The innermost directory that holds most of what its parent holds; None for an empty disk."""
    sizes = dict(directories)
    place = root
    while True:
        prefix = place.rstrip("/") + "/"
        children = [(path, taken) for path, taken in directories if _is_child(path, prefix)]
        largest = max(children, key=lambda child: child[1], default=None)
        if largest is None or largest[1] < 0.6 * sizes.get(place, 0):
            break
        place = largest[0]
    return (place, sizes[place]) if sizes.get(place) else None


def _is_child(path: str, prefix: str) -> bool:
    name = path[len(prefix) :]
    return path.startswith(prefix) and bool(name) and "/" not in name
