"""A million memories in one beat: nobody waits for it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.memories import decaying, fill, one_beat

MEMORIES = 1_000_000
DUE_SHARE = 0.2
LONGEST_WAIT_S = 1.0


@pytest.mark.timeout(300)
def test_a_million_memories_fade_while_everybody_else_goes_on(tmp_path: Path) -> None:
    due = fill(tmp_path / "state/state.db", MEMORIES, DUE_SHARE, time.time_ns() // 1000)
    with decaying(tmp_path) as table:
        waits = one_beat(table, limit_s=200.0)
    print(f"{MEMORIES:,} memories, {due:,} of them due: {waits.figures()}")
    assert waits.told is not None
    assert waits.told.faded == due
    assert waits.told.kept == waits.told.examined - due
    assert len(waits.triggers) > 10
    assert max(waits.triggers + waits.signals + waits.answers) < LONGEST_WAIT_S
