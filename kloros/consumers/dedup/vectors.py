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
# More than 32-bit floats may be wrong by, of a cosine.
_BULK_ERROR = 1e-3
_LEAST = 1e-9


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
    return _cosine(a[0], b[0], float(squares(a)[0]), float(squares(b)[0]))


def alike(
    asked: Vectors, known: Vectors, known_squares: npt.NDArray[np.float64], threshold: float
) -> list[list[tuple[float, int]]]:
    """For each row of `asked`, the rows of `known` that are at least so similar, with how similar they are.

    What may be is found in bulk, in 32-bit floats; what is, by computing each of these few exactly.
    """
    found: list[list[tuple[float, int]]] = [[] for _ in range(len(asked))]
    asked_squares = squares(asked)
    floor = max(threshold - _BULK_ERROR, _LEAST)
    scaled = (asked / (np.sqrt(asked_squares) * floor)[:, np.newaxis]).astype(np.float32)
    lengths = np.sqrt(known_squares).astype(np.float32)
    for first in range(0, len(known), _BLOCK_ROWS):
        block = slice(first, first + _BLOCK_ROWS)
        may_be = scaled @ known[block].astype(np.float32).T >= lengths[block]
        for row, column in np.argwhere(may_be).tolist():
            there = first + column
            cosine = _cosine(asked[row], known[there], float(asked_squares[row]), float(known_squares[there]))
            if cosine >= threshold:
                found[row].append((cosine, there))
    return found


def _cosine(a: npt.NDArray[np.int8], b: npt.NDArray[np.int8], a_square: float, b_square: float) -> float:
    product = float(np.dot(a.astype(np.float32), b.astype(np.float32)))
    return min(1.0, max(0.0, product / math.sqrt(a_square * b_square)))
