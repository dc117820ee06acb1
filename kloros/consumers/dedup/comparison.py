"""Comparing questions with the open ones: each text embedded once, its vector kept in the table, and in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from kloros.consumers.dedup.embedder import Embedding
from kloros.consumers.dedup.folding import Alike
from kloros.consumers.dedup.open_set import Entry, OpenSet, among
from kloros.consumers.dedup.question import Question
from kloros.consumers.dedup.store import DedupStore

# Texts given to the embedder at once; between two lots a cycle may stop and keep what it has.
_LOT = 64
_ATTEMPTS = 3


class Time(Protocol):
    """Whether there is some left."""

    def __call__(self) -> bool: ...


class Alikes(NamedTuple):
    """For each question of a batch, those that are alike it: among the open ones, and in the batch."""

    open_ones: Mapping[str, Alike]
    each_other: Mapping[str, Alike]


class Comparison:
    """Keeps the open questions' vectors in memory. What it holds can be made again from the tables at any time."""

    def __init__(self, embedding: Embedding) -> None:
        self.embedding = embedding
        self.embedded = 0
        self._open = OpenSet(embedding.key)

    @property
    def size_bytes(self) -> int:
        """What the vectors in memory take."""
        return self._open.size_bytes

    def of(
        self, batch: Sequence[Question], store: DedupStore, now_us: int, has_time: Time, threshold: float,
        names_must_agree: bool,
    ) -> Alikes | None:  # fmt: skip
        """What the batch is to be folded by; None when time ran out before everything was embedded. What was embedded
        is kept, so that the next attempt goes on from there."""
        for _ in range(_ATTEMPTS):
            key = self.embedding.key
            entries = self._entries(batch, store, now_us, has_time)
            if entries is None or not self._bring_up_to_date(store, now_us, has_time):
                return None
            if key == self.embedding.key == self._open.key:  # the embedder may have failed, and another taken its place
                open_ones = self._open.alike(entries, threshold, names_must_agree)
                return Alikes(open_ones, among(entries, threshold, names_must_agree))
        return None

    def _entries(self, batch: Sequence[Question], store: DedupStore, now_us: int, has_time: Time) -> list[Entry] | None:
        known = store.vectors({question.text_id for question in batch}, self.embedding.key)
        texts = {question.text_id: question.text for question in batch if question.text_id not in known}
        made = self._embed(texts, store, now_us, has_time)
        if len(made) < len(texts):
            return None
        vectors = known | made
        return [(question.question_id, question.text, vectors[question.text_id]) for question in batch]

    def _bring_up_to_date(self, store: DedupStore, now_us: int, has_time: Time) -> bool:
        """Hold just what the tables hold; False when time ran out before that."""
        if self._open.key != self.embedding.key:
            self._open = OpenSet(self.embedding.key)
        wanted = store.open_ids()
        self._open.remove(self._open.ids - wanted)
        missing = store.open_texts(wanted - self._open.ids)
        known = store.vectors({text_id for _, text_id in missing.values()}, self.embedding.key)
        unknown = {text_id: text for text, text_id in missing.values() if text_id not in known}
        vectors = known | self._embed(unknown, store, now_us, has_time)
        if self._open.key != self.embedding.key:
            return True
        self._open.add(
            [(each, text, vectors[text_id]) for each, (text, text_id) in missing.items() if text_id in vectors]
        )
        return len(self._open) == len(wanted)

    def _embed(self, texts: Mapping[str, str], store: DedupStore, now_us: int, has_time: Time) -> dict[str, bytes]:
        """Vectors of as many of the texts as there is time for, by their ids."""
        made: dict[str, bytes] = {}
        text_ids = list(texts)
        for first in range(0, len(text_ids), _LOT):
            if first and not has_time():
                break
            lot = text_ids[first : first + _LOT]
            key = self.embedding.key
            vectors = self.embedding.vectors([texts[text_id] for text_id in lot])
            self.embedded += len(lot)
            if self.embedding.key != key:
                made.clear()
            made.update(zip(lot, vectors, strict=True))
            for text_id, vector in zip(lot, vectors, strict=True):
                store.put_vector(text_id, self.embedding.key, vector, now_us)
        return made
