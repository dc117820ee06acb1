"""Runs a program that only tells something: bounded in time and in what it may say, and ended with all its children."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress

from kloros.errors import CannotObserve

_TAKEN_AT_ONCE = 65_536


def output_of(command: Sequence[str], timeout_s: float, max_bytes: int) -> bytes:
    """What `command` writes, cut off at `max_bytes`; what it wrote before it was ended for being slow counts too.

    Raises:
        CannotObserve: It cannot be run, or it ended badly, or was ended, without having said anything.
    """
    try:
        process = subprocess.Popen(
            [*command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"}, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise CannotObserve(f"{command[0]} cannot be run ({error.strerror})") from error
    killer = threading.Timer(timeout_s, _end, (process,))
    killer.daemon = True
    killer.start()
    try:
        said = _read(process, max_bytes)
    finally:
        killer.cancel()
        _end(process)
    code = process.returncode
    if not said and code:
        raise CannotObserve(f"{command[0]} " + (f"failed (exit {code})" if code > 0 else "took too long"))
    return said


def _read(process: subprocess.Popen[bytes], max_bytes: int) -> bytes:
    assert process.stdout is not None
    taken, left = [], max_bytes
    with process.stdout as stream:
        while left > 0 and (chunk := stream.read(min(left, _TAKEN_AT_ONCE))):
            taken.append(chunk)
            left -= len(chunk)
        if left > 0:
            with suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
    return b"".join(taken)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
