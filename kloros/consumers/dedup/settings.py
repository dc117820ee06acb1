"""config/semantic_dedup_consumer_config.toml: when questions are alike, when they are folded, how many are kept."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from kloros.config import Settings

AtLeastOne = Annotated[int, Meta(ge=1, le=1_000_000)]


class BatchSettings(Settings, frozen=True):
    """[batch]"""

    questions: AtLeastOne = 10
    wait_s: Annotated[float, Meta(ge=0, le=86_400)] = 30.0


class LimitSettings(Settings, frozen=True):
    """[limits]"""

    waiting: AtLeastOne = 2_000
    open: Annotated[int, Meta(ge=1, le=100_000)] = 10_000
    folded: Annotated[int, Meta(ge=1, le=5_000)] = 5_000
    unanswered_after_d: Annotated[float, Meta(gt=0, le=3650)] = 7.0
    ended: AtLeastOne = 10_000
    vectors: AtLeastOne = 20_000


class DedupSettings(Settings, frozen=True):
    """The whole file."""

    embedder: Annotated[str, Meta(min_length=1)] = "default"
    threshold: Annotated[float, Meta(gt=0, le=1)] = 0.85
    names_must_agree: bool = True
    batch: BatchSettings = BatchSettings()
    limits: LimitSettings = LimitSettings()
