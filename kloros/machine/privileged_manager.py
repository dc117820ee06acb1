"""Asks systemd to change something, over D-Bus, as root. Only the privileged helper does."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from jeepney import DBusAddress, MessageType, Properties, new_method_call
from jeepney.bus import get_bus
from jeepney.io.blocking import DBusConnection, prep_socket

from kloros.errors import HelperFailed

_BUS_NAME = "org.freedesktop.systemd1"
_MANAGER = DBusAddress("/org/freedesktop/systemd1", bus_name=_BUS_NAME, interface=f"{_BUS_NAME}.Manager")
# A reload takes as long as reading every unit takes.
_CALL_TIMEOUT_S = 20.0


class SystemdManager:
    """systemd's manager. All methods raise HelperFailed with what it, or the way to it, says."""

    def __init__(self) -> None:
        self._connection = self._connect()

    def restart(self, unit: str) -> None:
        """Queue a restart; returns before it is done."""
        self._call(new_method_call(_MANAGER, "RestartUnit", "ss", (unit, "replace")))

    def start(self, unit: str) -> None:
        """Queue a start; returns before it is done."""
        self._call(new_method_call(_MANAGER, "StartUnit", "ss", (unit, "replace")))

    def reset_failed(self, unit: str) -> None:
        """Forget a failure and the starts that were counted."""
        self._call(new_method_call(_MANAGER, "ResetFailedUnit", "s", (unit,)))

    def set_property(self, unit: str, name: str, value: int, *, persistent: bool) -> None:
        """Set a number of a unit now, and in a drop-in of systemd's own."""
        body = (unit, not persistent, [(name, ("t", value))])
        self._call(new_method_call(_MANAGER, "SetUnitProperties", "sba(sv)", body))

    def reload(self) -> None:
        """Read all unit files again."""
        self._call(new_method_call(_MANAGER, "Reload"))

    def read(self, unit: str, kind: str, name: str) -> Any:
        """A property of a unit, which is loaded if need be. kind: `Unit`, `Service`, ..."""
        (path,) = self._call(new_method_call(_MANAGER, "LoadUnit", "s", (unit,)))
        address = DBusAddress(path, bus_name=_BUS_NAME, interface=f"{_BUS_NAME}.{kind}")
        ((_signature, value),) = self._call(Properties(address).get(name))
        return value

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self._connection.close()

    def _connect(self) -> DBusConnection:
        try:
            sock = prep_socket(get_bus("SYSTEM"), timeout=_CALL_TIMEOUT_S)
            try:
                return DBusConnection(sock)
            except BaseException:
                sock.close()
                raise
        except (OSError, EOFError, KeyError, ValueError) as error:
            raise HelperFailed(reason=f"systemd cannot be asked over D-Bus ({error})") from error

    def _call(self, message: Any) -> tuple[Any, ...]:
        try:
            reply = self._connection.send_and_get_reply(message, timeout=_CALL_TIMEOUT_S)
        except (OSError, EOFError) as error:
            raise HelperFailed(reason=f"systemd did not answer over D-Bus ({error})") from error
        if reply.header.message_type is MessageType.error:
            raise HelperFailed(reason=f"systemd says: {' '.join(map(str, reply.body)) or 'no'}")
        return tuple(reply.body)
