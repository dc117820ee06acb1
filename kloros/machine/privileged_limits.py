"""Limits of units, raised by a drop-in of systemd's and taken back by removing it: the unit is then as it was before.

Each raise is written down before it is done, in a directory that only root can enter. Without such a record nothing is
taken back; with one nothing is raised again; and a drop-in that is not ours is left alone.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import msgspec

from kloros.errors import HelperFailed, HelperRefused
from kloros.machine.privileged_policy import HelperPolicy, raised
from kloros.machine.privileged_protocol import Answer, Property, RevertLimit, SetLimit

# systemd's property that tells what is in force, and of a resource limit the one that programs meet.
_READ_AS = {"MemoryMax": "MemoryMax", "TasksMax": "TasksMax", "LimitNOFILE": "LimitNOFILESoft"}


class Manager(Protocol):
    """What is needed of systemd."""

    def set_property(self, unit: str, name: str, value: int, *, persistent: bool) -> None: ...
    def reload(self) -> None: ...
    def read(self, unit: str, kind: str, name: str) -> object: ...


class Where(msgspec.Struct, frozen=True):
    """Records, and systemd's drop-ins, each for what lasts until the next boot and for what outlasts it."""

    runtime_records: Path = Path("/run/kloros-helper")
    lasting_records: Path = Path("/var/lib/kloros-helper")
    runtime_drop_ins: Path = Path("/run/systemd/system.control")
    lasting_drop_ins: Path = Path("/etc/systemd/system.control")


class Record(msgspec.Struct, frozen=True):
    """A limit that was raised."""

    unit: str
    property: Property
    before: int
    after: int
    persistent: bool


class Limits:
    """Raises and reverts. Raises HelperRefused and HelperFailed."""

    def __init__(self, manager: Manager, policy: HelperPolicy, memory_bytes: int, where: Where) -> None:
        self._manager, self._policy, self._memory_bytes, self._where = manager, policy, memory_bytes, where

    def set(self, request: SetLimit) -> Answer:
        """Raise a limit by a factor, within the policy."""
        with self._alone():
            before = self._value(request.unit, request.property)
            after = raised(request.property, before, request.factor, self._policy, self._memory_bytes)
            if isinstance(after, str):
                raise HelperRefused(reason=after)
            self._refuse_what_is_not_ours(request)
            record = Record(request.unit, request.property, before, after, request.persistent)
            self._write(self._record(record.unit, record.property, record.persistent), msgspec.json.encode(record))
            self._put(record)  # when this fails it may have taken hold all the same: the record stays
            return Answer(outcome="done", before=before, after=self._value(request.unit, request.property))

    def revert(self, request: RevertLimit) -> Answer:
        """Take a raise back, so that the unit's own files say again what the limit is."""
        with self._alone():
            record = self._record_of(request.unit, request.property)
            if record is None:
                raise HelperRefused(reason=f"{request.property} of {request.unit} was not raised from here")
            before = self._value(request.unit, request.property)
            self._remove(self._drop_in(record.unit, record.property, record.persistent))
            self._manager.reload()
            after = self._value(request.unit, request.property)
            self._forget(record)
            if after != record.before:
                reason = f"{request.property} of {request.unit} was {record.before} and is {after} by its unit files"
                return Answer(outcome="failed", reason=reason, before=before, after=after)
            return Answer(outcome="done", before=before, after=after)

    def _refuse_what_is_not_ours(self, request: SetLimit) -> None:
        if (record := self._recorded(request.unit, request.property)) is not None:
            told = f"{record.property} of {record.unit} was raised from {record.before} to {record.after} already"
            raise HelperRefused(reason=f"{told}; make that lasting in its unit file, or take it back")
        for persistent in (False, True):
            drop_in = self._drop_in(request.unit, request.property, persistent)
            if drop_in.exists():
                raise HelperRefused(reason=f"somebody set it with systemctl set-property ({drop_in})")

    def _recorded(self, unit: str, name: Property) -> Record | None:
        """The raise that is in force; one that has no drop-in (removed, or never written) is forgotten."""
        record = self._record_of(unit, name)
        if record is None or self._drop_in(unit, name, record.persistent).exists():
            return record
        self._manager.reload()  # systemd may hold on to a file that is gone
        self._forget(record)
        return None

    def _record_of(self, unit: str, name: Property) -> Record | None:
        for persistent in (False, True):
            path = self._record(unit, name, persistent)
            try:
                return msgspec.json.decode(path.read_bytes(), type=Record)
            except FileNotFoundError:
                continue
            except (OSError, msgspec.DecodeError) as error:
                raise HelperFailed(reason=f"the record {path} cannot be read ({error})") from error
        return None

    def _put(self, record: Record) -> None:
        if record.property != "LimitNOFILE":
            self._manager.set_property(record.unit, record.property, record.after, persistent=record.persistent)
            return
        # Resource limits of a process are set when it starts: systemd takes them from files alone.
        drop_in = self._drop_in(record.unit, record.property, record.persistent)
        hard = max(self._number(record.unit, "LimitNOFILE"), record.after)
        try:
            drop_in.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            text = f"[{_section(record.unit)}]\nLimitNOFILE={record.after}:{hard}\n"
            self._write(drop_in, text.encode(), mode=0o644)
        except OSError as error:
            raise HelperFailed(reason=f"{drop_in} cannot be written ({error.strerror})") from error
        self._manager.reload()

    def _value(self, unit: str, name: Property) -> int:
        return self._number(unit, _READ_AS[name])

    def _number(self, unit: str, name: str) -> int:
        value = self._manager.read(unit, _section(unit), name)
        if not isinstance(value, int):
            raise HelperFailed(reason=f"systemd tells no {name} of {unit}")
        return value

    def _record(self, unit: str, name: Property, persistent: bool) -> Path:
        folder = self._where.lasting_records if persistent else self._where.runtime_records
        return folder / f"{unit}.{name}.json"

    def _drop_in(self, unit: str, name: Property, persistent: bool) -> Path:
        folder = self._where.lasting_drop_ins if persistent else self._where.runtime_drop_ins
        return folder / f"{unit}.d" / f"50-{name}.conf"

    def _forget(self, record: Record) -> None:
        self._record(record.unit, record.property, record.persistent).unlink(missing_ok=True)

    @staticmethod
    def _remove(drop_in: Path) -> None:
        try:
            drop_in.unlink(missing_ok=True)
        except OSError as error:
            raise HelperFailed(reason=f"{drop_in} cannot be removed ({error.strerror})") from error
        with suppress(OSError):  # another drop-in lies there
            drop_in.parent.rmdir()

    @staticmethod
    def _write(path: Path, body: bytes, mode: int = 0o600) -> None:
        unfinished = path.with_name(f".{path.name}.new")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(body)
            file.flush()
            os.fsync(descriptor)
        unfinished.replace(path)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One at a time, across processes."""
        with (self._where.runtime_records / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _section(unit: str) -> str:
    return unit.rpartition(".")[2].capitalize()
