"""Very many questions as a large, unhappy machine would ask them; of some there are paraphrases."""

from __future__ import annotations

from random import Random

_ABOUT = (
    ("Why does {unit}.service fail with exit status {n}?", "What makes {unit}.service fail (status {n})?"),
    ("Why does {unit}.service have to be restarted again and again?", "Why is {unit}.service restarted so often?"),
    ("Why does {unit}.service use so much memory?", "What makes {unit}.service eat so much RAM?"),
    ("What fills the disk at /srv/{unit}?", "Why is /srv/{unit} full?"),
    ("Why does {unit}.service log the error “{word} of {other} {more}”?",),
    ("Why does {unit}[{n}] keep nearly as many files open as it may?", "Why does {unit}[{n}] have so many files open?"),
    ("Why does {unit} hang after the {word} of {other}?",),
    ("What has become of the {word} of {other} in the {more}?",),
)
_WORDS = (
    "checksum handshake replica tenant cursor lease quorum snapshot shard broker ledger socket payload header cipher"
    " token bucket mirror tablet segment region gateway tunnel relay spool record index digest marker window counter"
)


def many_questions(count: int, chance: Random) -> list[str]:
    """So many questions, about a third of them about what another one is about."""
    words = _WORDS.split()
    units = [f"{chance.choice(words)}-{chance.choice(words)}{n}" for n in range(max(1, count // 5))]
    return [_one(chance, words, chance.choice(units)) for _ in range(count)]


def _one(chance: Random, words: list[str], unit: str) -> str:
    ways = chance.choice(_ABOUT)
    word, other, more = (chance.choice(words) for _ in range(3))
    return chance.choice(ways).format(unit=unit, word=word, other=other, more=more, n=chance.randrange(1, 60))
