"""Vectors as they are kept and compared: whole numbers of one byte, so that every machine computes the same.

A vector is scaled and rounded to numbers from -127 to 127 whose squares add up to less than 2^24. Products of such
vectors are whole numbers that a 32-bit float holds exactly, in whatever order a machine adds them up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.int8]
_LARGEST = 127
_LONGEST = 4095.0  # its square is below 2^24
# Rows compared at once: what they take as floats, for a moment, stays small.
_BLOCK_ROWS = 1024


class NotAVector(ValueError):
    """What an embedder gave cannot be compared."""


def packed(vector: Iterable[float]) -> bytes:
    """The vector as it is kept. Raises NotAVector when it is empty, all zero or not finite."""
    numbers = np.asarray(vector if hasattr(vector, "__array__") else list(vector), dtype=np.float64)
    if numbers.ndim != 1 or not numbers.size:
        raise NotAVector(f"expected a row of numbers, found {numbers.ndim} dimensions, {numbers.size} numbers")
    largest = float(np.max(np.abs(numbers)))
    if not math.isfinite(largest) or largest == 0.0:
        raise NotAVector("all of it is zero" if largest == 0.0 else "not all of it is finite")
    numbers = numbers / largest
    length = math.sqrt(math.fsum((numbers * numbers).tolist()))
    scale = min(float(_LARGEST), (_LONGEST - math.sqrt(numbers.size)) / length)
    return np.rint(numbers * scale).astype(np.int8).tobytes()


def stacked(rows: Sequence[bytes]) -> Vectors:
    """Kept vectors, all of the same length, as one matrix."""
    return np.frombuffer(b"".join(rows), dtype=np.int8).reshape(len(rows), -1)


def squares(vectors: Vectors) -> npt.NDArray[np.float64]:
    """The square of each row's length."""
    wide = vectors.astype(np.float32)
    total: npt.NDArray[np.float64] = np.einsum("ij,ij->i", wide, wide).astype(np.float64)
    return total


def similarity(one: bytes, other: bytes) -> float:
    """The cosine, from 0 to 1; what points away from each other is not alike at all."""
    a, b = stacked([one]), stacked([other])
    return float(_cosines(a.astype(np.float32), b.astype(np.float32), squares(a), squares(b))[0, 0])


def alike(
    asked: Vectors, known: Vectors, known_squares: npt.NDArray[np.float64], threshold: float
) -> list[list[tuple[float, int]]]:
    """For each row of `asked`, the rows of `known` that are at least so similar, with how similar they are."""
    found: list[list[tuple[float, int]]] = [[] for _ in range(len(asked))]
    wide, asked_squares = asked.astype(np.float32), squares(asked)
    for first in range(0, len(known), _BLOCK_ROWS):
        block = slice(first, first + _BLOCK_ROWS)
        cosines = _cosines(wide, known[block].astype(np.float32), asked_squares, known_squares[block])
        for row, column in np.argwhere(cosines >= threshold):
            found[row].append((float(cosines[row, column]), first + int(column)))
    return found


def _cosines(
    a: npt.NDArray[np.float32],
    b: npt.NDArray[np.float32],
    a_squares: npt.NDArray[np.float64],
    b_squares: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    products = (a @ b.T).astype(np.float64)
    cosines = products / np.sqrt(np.outer(a_squares, b_squares))
    return np.clip(cosines, 0.0, 1.0)
