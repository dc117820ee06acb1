"""What the journal takes up on disk, and letting journald drop the oldest of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from kloros.errors import HelperFailed
from kloros.machine.journal_reader import JOURNAL_DIRECTORIES
from kloros.machine.privileged_protocol import Answer, VacuumJournal

_COMMAND = "/usr/bin/journalctl"
_TIMEOUT_S = 120.0


def journal_bytes(directories: Sequence[Path] = JOURNAL_DIRECTORIES) -> int:
    """What the journal's files take up."""
    total = 0
    for directory in directories:
        for path in directory.glob("*/*.journal*"):
            with suppress(OSError):  # rotated away just now
                total += os.stat(path).st_blocks * 512  # noqa: PTH116
    return total


def vacuum(
    request: VacuumJournal, command: str = _COMMAND, directories: Sequence[Path] = JOURNAL_DIRECTORIES
) -> Answer:
    """Begin new journal files, then drop the oldest until so much is left. Raises HelperFailed."""
    before = journal_bytes(directories)
    if before <= request.keep_mb << 20:
        return Answer(outcome="done", before=before, after=before)  # each new file would push the oldest one out
    for arguments in (["--rotate"], [f"--vacuum-size={request.keep_mb}M"]):
        try:
            done = subprocess.run(
                [command, "--quiet", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=_TIMEOUT_S, check=False, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise HelperFailed(reason=f"journalctl {arguments[0]}: {error}") from error
        if done.returncode:
            raise HelperFailed(reason=f"journalctl {arguments[0]}: {done.stderr.strip()[-300:]}")
    return Answer(outcome="done", before=before, after=journal_bytes(directories))
