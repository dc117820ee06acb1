"""Pairs of questions of which people said whether they are the same, and how an embedder does on them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kloros.consumers.dedup.embedder import Embedder
from kloros.consumers.dedup.names import differ, names_of
from kloros.consumers.dedup.vectors import packed, similarity

DATA = Path(__file__).parents[1] / "data"
TUNING, HELD_OUT = DATA / "alike_questions_tuning.tsv", DATA / "alike_questions_held_out.tsv"


class Pair(NamedTuple):
    """Two questions; `kind` says in which way they are the same, or not."""

    is_same: bool
    kind: str
    one: str
    other: str


@dataclass
class Score:
    """How many pairs were judged rightly and wrongly."""

    right: Counter[tuple[bool, str]] = field(default_factory=Counter)
    wrong: Counter[tuple[bool, str]] = field(default_factory=Counter)

    @property
    def precision(self) -> float:
        """Of the pairs that were folded, the share that are the same."""
        return self._found() / (self._found() + sum(count for (same, _), count in self.wrong.items() if not same))

    @property
    def recall(self) -> float:
        """Of the pairs that are the same, the share that were folded."""
        return self._found() / (self._found() + sum(count for (same, _), count in self.wrong.items() if same))

    def _found(self) -> int:
        return sum(count for (same, _), count in self.right.items() if same)

    def lines(self, title: str) -> list[str]:
        """For people."""
        total = sum(self.right.values()) + sum(self.wrong.values())
        head = f"{title}: {total} pairs, precision {self.precision:.3f}, recall {self.recall:.3f}"
        kinds = sorted({*self.right, *self.wrong}, key=lambda each: (not each[0], each[1]))
        return [head] + [
            f"  {'same' if same else 'other':5} {kind:10} {self.right[same, kind]:3} of"
            f" {self.right[same, kind] + self.wrong[same, kind]:3} right"
            for same, kind in kinds
        ]


def pairs(path: Path) -> list[Pair]:
    """The labelled pairs of a file."""
    rows = [line.split("\t") for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return [Pair(same == "1", kind, one, other) for same, kind, one, other in rows]


def score(embedder: Embedder, given: list[Pair], threshold: float = 0.85, names_must_agree: bool = True) -> Score:
    """How often `embedder` folds what is the same, and nothing else."""
    result = Score()
    for pair in given:
        one, other = (packed(vector) for vector in embedder.embed([pair.one, pair.other]))
        is_right = is_folded(pair.one, pair.other, one, other, threshold, names_must_agree) == pair.is_same
        (result.right if is_right else result.wrong)[pair.is_same, pair.kind] += 1
    return result


def is_folded(
    one: str, other: str, vector: bytes, other_vector: bytes, threshold: float = 0.85, names_must_agree: bool = True
) -> bool:
    """Whether one would be folded into the other."""
    if similarity(vector, other_vector) < threshold:
        return False
    names = [frozenset(names_of(text).certain) for text in (one, other)]
    return not (names_must_agree and differ(*names))
