"""The vectors of the open questions, in memory: what a batch is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set

import numpy as np

from kloros.consumers.dedup.folding import Alike
from kloros.consumers.dedup.names import differ, names_of
from kloros.consumers.dedup.vectors import alike, squares, stacked

_FIRST_ROWS = 256

Entry = tuple[str, str, bytes]
"""question_id, text, vector"""


class OpenSet:
    """A cache of what is in the tables: everything in it can be had from there again."""

    def __init__(self, key: str) -> None:
        """`key`: whose vectors these are, see Embedding."""
        self.key = key
        self._ids: list[str] = []
        self._names: list[frozenset[str]] = []
        self._rows: dict[str, int] = {}
        self._vectors = np.empty((0, 0), dtype=np.int8)
        self._squares = np.empty(0, dtype=np.float64)

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, question_id: object) -> bool:
        return question_id in self._rows

    @property
    def ids(self) -> Set[str]:
        """Those that are in it."""
        return self._rows.keys()

    @property
    def size_bytes(self) -> int:
        """What the vectors take."""
        return self._vectors.nbytes + self._squares.nbytes

    def add(self, entries: Sequence[Entry]) -> None:
        """Take in questions that are not in it."""
        if not entries:
            return
        vectors = stacked([vector for _, _, vector in entries])
        first, last = len(self._ids), len(self._ids) + len(entries)
        self._make_room(last, vectors.shape[1])
        self._vectors[first:last], self._squares[first:last] = vectors, squares(vectors)
        for row, (question_id, text, _) in enumerate(entries, first):
            self._ids.append(question_id)
            self._names.append(frozenset(names_of(text).certain))
            self._rows[question_id] = row

    def remove(self, question_ids: Iterable[str]) -> None:
        """Let go of questions; the last one takes the place of each."""
        for question_id in question_ids:
            row, last = self._rows.pop(question_id), len(self._ids) - 1
            if row != last:
                self._vectors[row], self._squares[row] = self._vectors[last], self._squares[last]
                self._ids[row], self._names[row] = self._ids[last], self._names[last]
                self._rows[self._ids[row]] = row
            self._ids.pop()
            self._names.pop()

    def alike(self, asked: Sequence[Entry], threshold: float, names_must_agree: bool) -> dict[str, Alike]:
        """For each asked question, those in the set that are at least so similar, but for itself."""
        if not asked or not self._ids:
            return {}
        count = len(self._ids)
        found = alike(stacked([entry[2] for entry in asked]), self._vectors[:count], self._squares[:count], threshold)
        alikes: dict[str, Alike] = {}
        for (question_id, text, _), likes in zip(asked, found, strict=True):
            names = frozenset(names_of(text).certain) if names_must_agree and likes else frozenset()
            alikes[question_id] = [
                (similarity, self._ids[row])
                for similarity, row in likes
                if self._ids[row] != question_id and not (names_must_agree and differ(names, self._names[row]))
            ]
        return alikes

    def _make_room(self, rows: int, dimensions: int) -> None:
        if rows <= len(self._vectors):
            return
        capacity = max(_FIRST_ROWS, rows, 3 * len(self._vectors) // 2)
        vectors, lengths = np.empty((capacity, dimensions), dtype=np.int8), np.empty(capacity, dtype=np.float64)
        count = len(self._ids)
        if count:
            vectors[:count], lengths[:count] = self._vectors[:count], self._squares[:count]
        self._vectors, self._squares = vectors, lengths


def among(entries: Sequence[Entry], threshold: float, names_must_agree: bool) -> dict[str, Alike]:
    """For each of these questions, the others of them that are alike."""
    each_other = OpenSet("")
    each_other.add(entries)
    return each_other.alike(entries, threshold, names_must_agree)
