"""Asks systemd over D-Bus: one connection kept open, made anew when it breaks. Reading needs no privilege."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

from jeepney import DBusAddress, MessageType, Properties, new_method_call
from jeepney.bus import get_bus
from jeepney.io.blocking import DBusConnection, prep_socket

from kloros.errors import CannotObserve

_BUS_NAME = "org.freedesktop.systemd1"
_MANAGER = DBusAddress("/org/freedesktop/systemd1", bus_name=_BUS_NAME, interface=f"{_BUS_NAME}.Manager")
# A systemd that is slower than this per call is busy rebooting or stuck; the next scan asks again.
CALL_TIMEOUT_S = 1.5

# Errors that mean there is no systemd to ask; all others are its answer to this one question.
_NOBODY_ANSWERS = (
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.AccessDenied",
    "org.freedesktop.DBus.Error.Spawn",
)


class UnitRow(NamedTuple):
    """One line of `systemctl list-units`."""

    name: str
    load: str
    active: str
    sub: str
    path: str

    @property
    def kind(self) -> str:
        """`service`, `mount`, `timer`..."""
        return self.name.rpartition(".")[2]


class SystemdBus:
    """The questions that scanners and investigators have; not for two threads at once.

    Raises CannotObserve when nobody answers.
    """

    def __init__(self) -> None:
        self._connection: _Connection | None = None

    def units(self, states: list[str], patterns: list[str]) -> list[UnitRow]:
        """The loaded units in any of `states` (load, active or sub) that match any of `patterns`; empty means all."""
        (rows,) = self._call(new_method_call(_MANAGER, "ListUnitsByPatterns", "asas", (states, patterns)))
        return [UnitRow(row[0], row[2], row[3], row[4], row[6]) for row in rows]

    def read(self, path: str, interface: str, name: str) -> Any:
        """One property of the unit at `path`; None when there is no such unit or property (any more).

        interface: `Unit`, or the unit's kind: `Service`, `Mount`...
        """
        address = DBusAddress(path, bus_name=_BUS_NAME, interface=f"{_BUS_NAME}.{interface}")
        try:
            ((_signature, value),) = self._call(Properties(address).get(name))
        except _Refused:
            return None
        return value

    def unit_path(self, name: str) -> str | None:
        """Where the unit lives on D-Bus; systemd loads it if need be. None for what cannot be a unit's name."""
        try:
            (path,) = self._call(new_method_call(_MANAGER, "LoadUnit", "s", (name,)))
        except _Refused:
            return None
        return str(path)

    def properties(self, path: str, interface: str) -> dict[str, Any]:
        """All properties of the unit at `path`, as `read` gives them; empty when there is none."""
        address = DBusAddress(path, bus_name=_BUS_NAME, interface=f"{_BUS_NAME}.{interface}")
        try:
            (values,) = self._call(Properties(address).get_all())
        except _Refused:
            return {}
        return {name: value for name, (_signature, value) in values.items()}

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
            self._connection = None

    def _call(self, message: Any) -> tuple[Any, ...]:
        try:
            reply = self._ask(message)
        except (OSError, EOFError, KeyError, ValueError) as error:
            self.close()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise CannotObserve(f"systemd cannot be asked over D-Bus ({reason})") from error
        if reply.header.message_type is MessageType.error:
            name = next((value for field, value in reply.header.fields.items() if field.name == "error_name"), "")
            if name.startswith(_NOBODY_ANSWERS):
                raise CannotObserve(f"systemd does not answer over D-Bus ({name})")
            raise _Refused(str(reply.body))
        return tuple(reply.body)

    def _ask(self, message: Any) -> Any:
        """The reply; a connection that a restarted D-Bus has dropped since the last scan is made anew once."""
        if self._connection is not None:
            try:
                return self._connection.send_and_get_reply(message)
            except (ConnectionError, EOFError):
                self.close()
        self._connection = _connect()
        return self._connection.send_and_get_reply(message)


class _Connection(DBusConnection):  # type: ignore[misc]
    """A connection whose every call is bounded; jeepney's own first one, Hello, is not."""

    def send_and_get_reply(self, message: Any, *, timeout: float | None = None) -> Any:
        return super().send_and_get_reply(message, timeout=timeout or CALL_TIMEOUT_S)


def _connect() -> _Connection:
    sock = prep_socket(get_bus("SYSTEM"), timeout=CALL_TIMEOUT_S)
    try:
        return _Connection(sock)
    except BaseException:
        sock.close()
        raise


class _Refused(Exception):
    """systemd answered: no."""
