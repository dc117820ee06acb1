"""The vocabulary of the suite. Declare your own signals here, from your own module, before the bus is opened."""

from __future__ import annotations

from kloros.chembus.declaration import TRIGGER_PREFIX, Delivery, Signal, Vocabulary
from kloros.chembus.signals import ALL

__all__ = ["TRIGGER_PREFIX", "VOCABULARY", "Delivery", "Signal", "Vocabulary", "declare", "suite_vocabulary"]


def suite_vocabulary() -> Vocabulary:
    """A fresh vocabulary with every signal of the suite."""
    return Vocabulary(ALL)


VOCABULARY = suite_vocabulary()


def declare(signal: Signal) -> Signal:
    """Add a signal to the vocabulary of this process.

    Raises:
        ValueError: The name is taken by another declaration, or cannot be a topic.
    """
    return VOCABULARY.declare(signal)
