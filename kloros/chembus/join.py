"""The probe that confirms a subscriber: it comes back only once every earlier subscription works.

Subscriptions reach the proxy in the order they were made, and after a reconnection in the order of their bytes; the
tilde sorts behind every signal's name. Old clients that hear everything find an ordinary message in it.
"""

from __future__ import annotations

import msgspec

from kloros.chembus.envelope import Message

JOIN_PREFIX = b"~join."


def probe(topic: bytes, wall_us: int) -> bytes:
    """The second frame of a probe."""
    return msgspec.json.encode(Message(signal=topic.decode(), ecosystem="colony", facts={}, ts=wall_us / 1e6))
