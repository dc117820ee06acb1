"""What turns questions into vectors: the built-in embedder, or one that another package offers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import entry_points
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from kloros.consumers.dedup.hashed_words import DIMENSIONS, HashedWords
from kloros.consumers.dedup.vectors import NotAVector, packed

ENTRY_POINT_GROUP = "kloros.embedders"
BUILT_IN = HashedWords.name
_PROBE = "Why does example.service fail?"


class Embedder(Protocol):
    """Texts to vectors: alike texts to vectors that point the same way. `embed` runs in a worker thread.

    name, version: what was embedded under another name or version is embedded anew.
    """

    name: str
    version: str

    def embed(self, texts: Sequence[str]) -> Iterable[Iterable[float]]:
        """One vector for each text, all of the same length."""
        ...


class EmbedderUnusable(Exception):
    """An embedder that is missing, cannot be loaded, or does not give what it should; says so for people."""


def find(name: str) -> Embedder:
    """The embedder of that name: an entry point is a callable without arguments. Raises EmbedderUnusable."""
    if name == BUILT_IN:
        return HashedWords()
    offered = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
    if name not in offered:
        known = ", ".join(sorted({BUILT_IN, *offered}))
        raise EmbedderUnusable(f"no installed package offers the embedder {name!r}; there are: {known}")
    try:
        embedder: Embedder = offered[name].load()()
    except Exception as error:
        raise EmbedderUnusable(f"it cannot be loaded: {type(error).__name__}: {error}") from error
    lacking = [each for each in ("name", "version", "embed") if not hasattr(embedder, each)]
    if lacking:
        raise EmbedderUnusable(f"it has no {' and no '.join(lacking)}")
    if not callable(embedder.embed):
        raise EmbedderUnusable("its embed cannot be called")
    return embedder


class Embedding:
    """The chosen embedder as long as it works, then the built-in one."""

    def __init__(self, name: str, log: FilteringBoundLogger) -> None:
        self._log, self._name = log, BUILT_IN
        self.lack: str | None = None
        self.refusals = 0
        self._embedder: Embedder = HashedWords()
        self._length = DIMENSIONS
        if name != BUILT_IN:
            self._take(name)

    @property
    def key(self) -> str:
        """Which vectors may be compared with each other: those under the same key."""
        return f"{self._name} {self._embedder.version} {self._length}"

    def vectors(self, texts: Sequence[str]) -> list[bytes]:
        """A vector for each text, as it is kept. When the embedder fails the built-in one gives them, under its own
        `key`."""
        if not isinstance(self._embedder, HashedWords):
            try:
                return _checked(self._embedder, texts, self._length)
            except Exception as error:  # noqa: BLE001 - somebody else's code; it is named, and folding goes on
                self._fall_back(error)
        return [packed(vector) for vector in self._embedder.embed(texts)]

    def _take(self, name: str) -> None:
        self._name = name
        try:
            embedder = find(name)
            self._length = len(_checked(embedder, [_PROBE], None)[0])
        except Exception as error:  # noqa: BLE001 - as above
            self._fall_back(error)
        else:
            self._embedder = embedder

    def _fall_back(self, error: Exception) -> None:
        reason = str(error) if isinstance(error, EmbedderUnusable) else f"{type(error).__name__}: {error}"
        self.lack = f"embedder {self._name!r} is not used: {reason}"
        self.refusals += 1
        self._log.error("embedder_refused", embedder=self._name, reason=reason, instead=BUILT_IN)
        self._name, self._embedder, self._length = BUILT_IN, HashedWords(), DIMENSIONS


def _checked(embedder: Embedder, texts: Sequence[str], length: int | None) -> list[bytes]:
    """Raises EmbedderUnusable, or whatever the embedder raises."""
    given = list(embedder.embed(texts))
    if len(given) != len(texts):
        raise EmbedderUnusable(f"it gave {len(given)} vectors for {len(texts)} texts")
    try:
        vectors = [packed(vector) for vector in given]
    except (NotAVector, TypeError, ValueError) as error:
        raise EmbedderUnusable(f"it gave something that is no vector: {error}") from error
    for vector in vectors:
        if len(vector) != (length or len(vectors[0])):
            raise EmbedderUnusable(f"it gave vectors of different lengths: {length or len(vectors[0])}, {len(vector)}")
    return vectors
