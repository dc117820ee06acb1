"""What fills a file system: a walk that stays on it, and is bounded in entries, time and memory."""

from __future__ import annotations

import heapq
import os
import stat
from collections import deque
from pathlib import Path
from typing import NamedTuple

from kloros.machine.deadline import Deadline
from kloros.machine.names import readable

_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own
_MAX_DEPTH_KEPT = 5
_MAX_DIRECTORIES_KEPT = 20_000
_MAX_LINKED = 200_000
_TOP = 8
_LOOK_EVERY = 512


class Usage(NamedTuple):
    """What was found below `root`.

    directories: bytes by directory, each with all that is below it, largest first. files: the largest. fresh: the
    largest of those that were changed lately. crowded: the directories with the most entries of their own. unseen:
    directories that may not be looked into. is_whole: whether the walk came to its end. Names are readable text.
    """

    root: str
    total_bytes: int
    entries: int
    directories: list[tuple[str, int]]
    files: list[tuple[str, int]]
    fresh: list[tuple[str, int]]
    crowded: list[tuple[str, int]]
    unseen: int
    is_whole: bool


class _Walk:
    def __init__(self, root: str, device: int, deadline: Deadline, max_entries: int, fresh_s: float) -> None:
        self.device, self.deadline, self.max_entries, self.fresh_s = device, deadline, max_entries, fresh_s
        self.bytes: dict[str, int] = {root: 0}
        self.files: list[tuple[int, str]] = []
        self.fresh: list[tuple[int, str]] = []
        self.crowded: list[tuple[int, str]] = []
        self.linked: set[int] = set()
        self.entries = self.unseen = 0
        self.waiting: deque[tuple[str, tuple[str, ...]]] = deque([(root, (root,))])

    def run(self) -> bool:
        """Returns whether it came to its end."""
        while self.waiting:
            if not self._look_into(*self.waiting.popleft()):
                return False
        return True

    def _look_into(self, directory: str, above: tuple[str, ...]) -> bool:
        own = 0
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    own += 1
                    self.entries += 1
                    if self.entries >= self.max_entries or (self.entries % _LOOK_EVERY == 0 and self.deadline.is_over):
                        return False
                    self._take(entry, above)
        except OSError:
            self.unseen += 1
        _keep_top(self.crowded, own, directory)
        return not self.deadline.is_over

    def _take(self, entry: os.DirEntry[str], above: tuple[str, ...]) -> None:
        try:
            state = entry.stat(follow_symlinks=False)
        except OSError:
            return  # gone
        if stat.S_ISDIR(state.st_mode):
            if state.st_dev != self.device:
                return
            is_kept = len(above) <= _MAX_DEPTH_KEPT and len(self.bytes) < _MAX_DIRECTORIES_KEPT
            self.waiting.append((entry.path, (*above, entry.path) if is_kept else above))
            if is_kept:
                self.bytes[entry.path] = 0
                above = (*above, entry.path)
        elif state.st_nlink > 1:
            if state.st_ino in self.linked:
                return
            if len(self.linked) < _MAX_LINKED:
                self.linked.add(state.st_ino)
        size = state.st_blocks * _BLOCK_BYTES
        for directory in above:
            self.bytes[directory] += size
        if stat.S_ISREG(state.st_mode):
            _keep_top(self.files, size, entry.path)
            if state.st_mtime >= self.fresh_s:
                _keep_top(self.fresh, size, entry.path)


def walk(root: Path, deadline: Deadline, max_entries: int, fresh_s: float) -> Usage:
    """Look at everything below `root` on its own file system. Raises OSError when `root` may not be looked at.

    fresh_s: files changed at that moment (epoch seconds) or later were changed lately.
    """
    start = str(root)
    found = _Walk(start, root.stat().st_dev, deadline, max_entries, fresh_s)
    is_whole = found.run()
    largest = heapq.nlargest(200, found.bytes.items(), key=lambda item: item[1])
    return Usage(
        readable(start), found.bytes[start], found.entries, [(readable(path), size) for path, size in largest],
        _sorted(found.files), _sorted(found.fresh), _sorted(found.crowded), found.unseen, is_whole,
    )  # fmt: skip


def _keep_top(heap: list[tuple[int, str]], size: int, path: str) -> None:
    if len(heap) < _TOP:
        heapq.heappush(heap, (size, path))
    elif size > heap[0][0]:
        heapq.heapreplace(heap, (size, path))


def _sorted(heap: list[tuple[int, str]]) -> list[tuple[str, int]]:
    return [(readable(path), size) for size, path in sorted(heap, reverse=True)]
