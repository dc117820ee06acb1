"""The built-in embedder: a question's features, hashed into a vector. Needs no model and no network. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

from kloros.consumers.dedup.features import features_of

DIMENSIONS = 512
# Each feature is spread over so many dimensions: two different ones hardly ever share more than one of them.
_SPREAD = 4
_SIGNS = (-1.0, 1.0)
_MANY = 50_000


class HashedWords:
    """The embedder `default`. The same text gives the same vector on every machine, in every run.

    `version` is to be raised with whatever changes a vector: words, weights, hashing.
    """

    name = "default"
    version = "1"

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector for each text."""
        return [_vector(features_of(text)) for text in texts]


def _vector(features: dict[str, float]) -> list[float]:
    vector = [0.0] * DIMENSIONS
    for feature, weight in features.items():
        for place, sign in _places(feature):
            vector[place] += sign * weight
    if not any(vector):
        vector[0] = 1.0  # what says nothing is like all else that says nothing
    return vector


@lru_cache(maxsize=_MANY)
def _places(feature: str) -> tuple[tuple[int, float], ...]:
    """Where a feature goes, each with a sign, so that what two features share by chance cancels out on average."""
    digest = hashlib.blake2b(feature.encode(), digest_size=4 * _SPREAD).digest()
    numbers = [int.from_bytes(digest[at : at + 4], "big") for at in range(0, len(digest), 4)]
    part = DIMENSIONS // _SPREAD
    return tuple((nth * part + (number >> 1) % part, _SIGNS[number & 1]) for nth, number in enumerate(numbers))
