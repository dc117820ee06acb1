"""For every test: nothing may be left behind; and what the tests share."""

from __future__ import annotations

import gc
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

_SETTLE_LIMIT_S = 5.0
_DESCRIPTORS = Path("/proc/self/fd")


def wait_until(condition: Callable[[], object], limit_s: float = 10.0, what: str = "the condition") -> None:
    """Wait for a condition, with a limit; the tests' only way to wait."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline_s:
            pytest.fail(f"waited {limit_s} s in vain for {what}")
        time.sleep(0.001)


def _open_descriptors() -> set[tuple[str, str]]:
    found = set()
    for descriptor in _DESCRIPTORS.iterdir():
        try:
            found.add((descriptor.name, str(descriptor.readlink())))
        except OSError:  # the descriptor of this very listing
            continue
    return found


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """A thread, socket, pipe or file that outlives its test fails it."""
    if not _DESCRIPTORS.is_dir():
        yield
        return
    threads, descriptors = set(threading.enumerate()), _open_descriptors()
    yield
    deadline_s = time.monotonic() + _SETTLE_LIMIT_S
    while True:
        left = [t.name for t in threading.enumerate() if t not in threads]
        open_still = sorted(target for _, target in _open_descriptors() - descriptors)
        if not left and not open_still:
            return
        if time.monotonic() > deadline_s:
            pytest.fail(f"left behind: threads {left}, descriptors {open_still}")
        gc.collect()
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Logging is set up once per process by the composition root; a test that runs one must not do so for the next."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def wait_for() -> Callable[..., None]:
    """`wait_until`, for tests in files that cannot import this one."""
    return wait_until


@pytest.fixture
def runtime_dir() -> Iterator[Path]:
    """A directory with a path short enough for Unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="kl", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
