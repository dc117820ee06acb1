"""Everyone is killed at random moments, and every durable signal that was promised has its effect exactly once.

CHAOS_KILLS and CHAOS_SEED make a longer run, or the same one again.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.chaos import CAST, Colony

KILLS = int(os.environ.get("CHAOS_KILLS", "210"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
SETTLE_LIMIT_S = 30.0

WaitFor = Callable[..., None]


@pytest.fixture
def chance() -> random.Random:
    print(f"CHAOS_SEED={SEED}")
    return random.Random(SEED)


@pytest.fixture
def colony(runtime_dir: Path) -> Iterator[Colony]:
    colony = Colony(runtime_dir)
    colony.revive()
    yield colony
    colony.close()


def rage(colony: Colony, chance: random.Random, kills: int, pause_s: tuple[float, float] = (0.02, 0.2)) -> None:
    """Kill whoever comes, again and again, and give each a new life at once or a little later."""
    for _ in range(kills):
        victim = chance.choice([*CAST, "chem_proxy", "eater"])
        colony.tell("kill", victim)
        time.sleep(chance.uniform(*pause_s))
        colony.revive()


def settle_and_judge(colony: Colony, at_least: int) -> None:
    colony.quiet()
    deadline_s = time.monotonic() + SETTLE_LIMIT_S
    while not colony.is_settled():
        colony.revive()
        if time.monotonic() > deadline_s:
            break
        time.sleep(0.1)
    verdict = colony.verdict()
    print(verdict.promised, "promised,", verdict.effects, "effects,", verdict.echoed, "passed on and worked off")
    assert verdict.is_exact, (SEED, verdict)
    assert verdict.promised >= at_least


def test_whoever_is_killed_each_signal_has_its_effect_exactly_once(colony: Colony, chance: random.Random) -> None:
    rage(colony, chance, KILLS)
    settle_and_judge(colony, at_least=KILLS)


def test_the_proxy_stands_still_for_ten_seconds(colony: Colony, chance: random.Random) -> None:
    time.sleep(1.0)
    colony.tell("stop", "chem_proxy")
    ends_s = time.monotonic() + 10.0
    while time.monotonic() < ends_s:
        colony.tell("kill", chance.choice([name for name in CAST if name != "chem_proxy"]))
        time.sleep(chance.uniform(0.3, 1.0))
        colony.revive()
    colony.tell("cont", "chem_proxy")
    settle_and_judge(colony, at_least=100)


def test_the_proxy_is_away_for_ten_seconds(colony: Colony) -> None:
    time.sleep(1.0)
    colony.tell("kill", "chem_proxy")
    time.sleep(10.0)
    colony.revive()
    settle_and_judge(colony, at_least=100)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of a few megabytes of its own."""
    path = Path(tempfile.mkdtemp(prefix="kl", dir="/tmp"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        path.rmdir()
        pytest.skip(f"no disk of our own can be mounted here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)
    shutil.rmtree(path)


def test_the_disk_is_filled_and_emptied(small_disk: Path, runtime_dir: Path, chance: random.Random) -> None:
    colony = Colony(runtime_dir, small_disk)
    try:
        colony.revive()
        time.sleep(1.5)
        for _ in range(3):
            fill(small_disk / "ballast")
            rage(colony, chance, 6, (0.05, 0.4))
            (small_disk / "ballast").unlink()
            rage(colony, chance, 4, (0.05, 0.4))
        settle_and_judge(colony, at_least=200)
        logs = "".join(path.read_text() for path in (runtime_dir / "logs").iterdir())
        assert "full" in logs  # it was, for somebody
    finally:
        colony.close()


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(b"x" * 4096)
        except OSError:
            return
