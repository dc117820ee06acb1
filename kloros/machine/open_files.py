"""Files that are deleted and still open: they take room that no directory shows. Seen as far as /proc shows them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from kloros.machine.deadline import Deadline
from kloros.machine.names import readable

_BLOCK_BYTES = 512
_DELETED = " (deleted)"


class DeletedFile(NamedTuple):
    """One of them, and who holds it."""

    path: str
    size_bytes: int
    pid: int
    name: str


def deleted_files(proc: Path, device: int, deadline: Deadline) -> tuple[list[DeletedFile], bool]:
    """Those on `device`, largest first, and whether every process could be looked into."""
    found: dict[tuple[int, int], DeletedFile] = {}
    saw_all = True
    with os.scandir(proc) as processes:
        pids = [int(process.name) for process in processes if process.name.isdigit()]
    for pid in pids:
        if deadline.is_over:
            return _sorted(found), False
        try:
            with os.scandir(f"{proc}/{pid}/fd") as entries:
                for entry in entries:
                    _take(found, entry, device, pid)
        except FileNotFoundError:
            continue  # gone
        except OSError:
            saw_all = False
    return _sorted(found), saw_all


def _take(found: dict[tuple[int, int], DeletedFile], entry: os.DirEntry[str], device: int, pid: int) -> None:
    try:
        target = os.readlink(entry.path)  # noqa: PTH115 - thousands of them
        if not target.startswith("/") or not target.endswith(_DELETED):
            return
        state = os.stat(entry.path)  # noqa: PTH116
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return
    if state.st_dev == device:
        path = readable(target.removesuffix(_DELETED))
        found[state.st_dev, state.st_ino] = DeletedFile(path, state.st_blocks * _BLOCK_BYTES, pid, name)


def _sorted(found: dict[tuple[int, int], DeletedFile]) -> list[DeletedFile]:
    return sorted(found.values(), key=lambda file: -file.size_bytes)
