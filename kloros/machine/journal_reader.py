"""Reads new journal entries with journalctl, from a kept place on; bounded in lines, bytes and time."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from kloros.errors import CannotObserve
from kloros.units import US_PER_S

JOURNAL_DIRECTORIES = (Path("/var/log/journal"), Path("/run/log/journal"))
_FIELDS = (
    "MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "UNIT", "KLOROS_EVENT", "_SYSTEMD_UNIT", "_TRANSPORT", "_COMM",
)  # fmt: skip
_LONG_MESSAGE = "(a very long message)"  # journalctl leaves out what is over 4 KiB


class Place(msgspec.Struct, frozen=True):
    """Where to read on: after the entry that `cursor` names, or after `after_us` while there is none."""

    after_us: int
    cursor: str | None = None


class Entry(msgspec.Struct, frozen=True):
    """What matters of a journal entry."""

    message: str
    priority: int
    unit: str
    identifier: str
    about_unit: str
    event: str


class Batch(msgspec.Struct, frozen=True):
    """New entries, the place after them, and whether there were more than the bounds allow."""

    entries: list[Entry]
    place: Place
    has_more: bool = False


class JournalReader:
    """Runs journalctl only when a journal file changed since everything was read."""

    def __init__(
        self,
        max_lines: int,
        max_bytes: int,
        timeout_s: float,
        directories: Sequence[Path] = JOURNAL_DIRECTORIES,
        command: Sequence[str] = ("journalctl",),
    ) -> None:
        self._max_lines, self._max_bytes, self._timeout_s = max_lines, max_bytes, timeout_s
        self._directories = directories
        self._command = [*command, "-q", "--no-pager", "-o", "json", "-p", "3", "--output-fields=" + ",".join(_FIELDS)]
        self._read_up_to: tuple[object, ...] | None = None

    def read(self, place: Place) -> Batch:
        """The error-level entries after `place`. Raises CannotObserve when there is no journal, or none we may read."""
        state = self._files()
        if state == self._read_up_to:
            return Batch([], place)
        batch = self._run(place)
        self._read_up_to = None if batch.has_more else state
        return batch

    def _files(self) -> tuple[object, ...]:
        """Names, sizes and times of the journal files; journald touches them with every write."""
        found, readable = [], False
        for directory in self._directories:
            for path in sorted(directory.glob("*/*.journal")):
                try:
                    stat = path.stat()
                except OSError:  # rotated away just now
                    continue
                found.append((str(path), stat.st_size, stat.st_mtime_ns))
                readable = readable or os.access(path, os.R_OK)
        if not found:
            raise CannotObserve("there is no journal (no files in " + ", ".join(map(str, self._directories)) + ")")
        if not readable:
            raise CannotObserve("the journal may not be read; join the group systemd-journal")
        return tuple(found)

    def _run(self, place: Place) -> Batch:
        try:
            process = subprocess.Popen(
                [*self._command, _where(place)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env={**os.environ, "LC_ALL": "C"},
            )  # fmt: skip
        except OSError as error:
            raise CannotObserve(f"{self._command[0]} cannot be run ({error.strerror})") from error
        assert process.stdout is not None
        killer = threading.Timer(self._timeout_s, process.kill)
        killer.start()
        try:
            batch, is_whole = self._take(process.stdout, place)
        finally:
            killer.cancel()
            process.stdout.close()
            if not is_finished(process):
                process.kill()
            code = process.wait()
        return self._cut_short(batch, place, code) if is_whole and code != 0 else batch

    def _cut_short(self, batch: Batch, place: Place, code: int) -> Batch:
        """journalctl failed, or was ended for being slow. What it gave counts; the rest is read next time.

        A cursor that it cannot follow any more is given up for the time it stood for.
        """
        if batch.entries:
            return Batch(batch.entries, batch.place, has_more=True)
        if place.cursor is None or code < 0:
            raise CannotObserve(f"{self._command[0]} " + (f"failed (exit {code})" if code > 0 else "took too long"))
        return Batch([], Place(place.after_us), has_more=True)

    def _take(self, stream: IO[bytes], place: Place) -> tuple[Batch, bool]:
        entries: list[Entry] = []
        lines = size = 0
        for line in stream:
            lines, size = lines + 1, size + len(line)
            if lines > self._max_lines or size > self._max_bytes:
                return Batch(entries, place, has_more=True), False
            fields = _decode(line)
            cursor = fields.get("__CURSOR")
            if not isinstance(cursor, str) or cursor == place.cursor:
                continue
            place = Place(int(fields.get("__REALTIME_TIMESTAMP", place.after_us)), cursor)
            entries.append(_entry(fields))
        return Batch(entries, place), True


def is_finished(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process ended by itself."""
    return process.poll() is not None


def _where(place: Place) -> str:
    # `--cursor` includes the entry it names, which `_take` skips; were that gone, `--after-cursor` would skip another.
    if place.cursor is not None:
        return f"--cursor={place.cursor}"
    seconds, us = divmod(place.after_us + 1, US_PER_S)
    return f"--since=@{seconds}.{us:06}"


def _decode(line: bytes) -> dict[str, Any]:
    try:
        fields = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _entry(fields: dict[str, Any]) -> Entry:
    identifier = text_of(fields.get("SYSLOG_IDENTIFIER")) or text_of(fields.get("_COMM"))
    is_kernel = fields.get("_TRANSPORT") == "kernel"
    priority = text_of(fields.get("PRIORITY"))
    return Entry(
        message=_LONG_MESSAGE if fields.get("MESSAGE", "") is None else text_of(fields.get("MESSAGE")),
        priority=int(priority) if priority.isdigit() else 3,
        unit=text_of(fields.get("_SYSTEMD_UNIT")),
        identifier="kernel" if is_kernel else identifier,
        about_unit=text_of(fields.get("UNIT")),
        event=text_of(fields.get("KLOROS_EVENT")),
    )


def text_of(value: Any) -> str:
    """A journal field as text: journalctl writes bytes that are not UTF-8 as numbers, and repeated fields as a list."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value:
        if all(isinstance(item, int) for item in value):
            return bytes(item & 0xFF for item in value).decode("utf-8", errors="replace")
        return text_of(value[0])
    return ""
