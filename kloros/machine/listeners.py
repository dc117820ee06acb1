"""Who holds a port: from the kernel's tables of sockets, with the unit by the socket's control group.

Neither needs a privilege: /proc/net tells ports and inodes, the kernel's socket diagnosis (sock_diag(7)) the control
group. The process itself is found by its descriptors, where those may be seen, else by its control group.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kloros.machine.cgroups import Cgroups, unit_of
from kloros.machine.processes import Processes

_LISTEN = 10
_TABLES = (("tcp", "tcp"), ("tcp6", "tcp"), ("udp", "udp"), ("udp6", "udp"))
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_DUMP_REQUEST = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_INET_DIAG_CGROUP_ID = 21
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI48x")
_MESSAGE_BYTES = 72
_REPLY_BYTES = 1 << 18
_ANSWER_S = 1.0
_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}


class Holder(NamedTuple):
    """Who listens on a port. pid 0: not known. unit empty: none, or not known."""

    port: int
    protocol: str
    pid: int = 0
    name: str = ""
    unit: str = ""

    def __str__(self) -> str:
        who = f"pid {self.pid} ({self.name})" if self.pid else "a process that cannot be seen"
        return f"{self.unit}, {who}" if self.unit else who


class Listeners:
    """The sockets that wait for others, in this network namespace."""

    def __init__(self, cgroups: Cgroups, processes: Processes, proc: Path = Path("/proc")) -> None:
        self._cgroups, self._processes, self._proc = cgroups, processes, proc

    def holder(self, port: int, protocol: str = "tcp") -> Holder | None:
        """Who holds the port; None when nobody does."""
        inodes = [inode for table, kind in _TABLES if kind == protocol for inode in self._inodes(table, port)]
        if not inodes:
            return None
        unit = self._unit(port, protocol)
        pid = self._pid(inodes, unit)
        process = self._processes.one(pid) if pid else None
        name = process.name if process else ""
        return Holder(port, protocol, pid, name, unit or (process.unit if process else ""))

    def ports(self) -> set[int]:
        """All TCP ports that somebody listens on."""
        return {port for table in ("tcp", "tcp6") for port, _ in self._listening(table)}

    def _inodes(self, table: str, port: int) -> list[int]:
        return [inode for held, inode in self._listening(table) if held == port]

    def _listening(self, table: str) -> Iterator[tuple[int, int]]:
        try:
            lines = (self._proc / "net" / table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            return
        for fields in map(str.split, lines):
            if table.startswith("udp") or int(fields[3], 16) == _LISTEN:
                yield int(fields[1].rpartition(":")[2], 16), int(fields[9])

    def _unit(self, port: int, protocol: str) -> str:
        try:
            groups = {number for held, number in listening_groups(protocol) if held == port}
        except OSError:
            return ""
        return next((unit_of(path) for number in groups if (path := self._cgroups.by_number(number))), "")

    def _pid(self, inodes: list[int], unit: str) -> int:
        """The holder by its descriptors; by its unit, when it is alone there."""
        wanted = {f"socket:[{inode}]" for inode in inodes}
        everybody = self._processes.all()
        ours = [each.pid for each in everybody if each.unit == unit] if unit else []
        for pid in ours or [each.pid for each in everybody]:
            if wanted.intersection(self._processes.targets(pid, 4096)):
                return pid
        return min(ours, default=0)


def listening_groups(protocol: str) -> list[tuple[int, int]]:
    """(port, id of its control group) of each socket that waits. Raises OSError where the kernel is not asked."""
    found: list[tuple[int, int]] = []
    states = 1 << _LISTEN if protocol == "tcp" else 0xFFFFFFFF
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as link:
        link.settimeout(_ANSWER_S)
        for family in (socket.AF_INET, socket.AF_INET6):
            body = _REQUEST.pack(family, _PROTOCOLS[protocol], 0, states)
            link.send(_HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _DUMP_REQUEST, 0, 0) + body)
            while not _take(link.recv(_REPLY_BYTES), found):
                pass
    return found


def _take(reply: bytes, found: list[tuple[int, int]]) -> bool:
    """Add what is in one datagram; returns whether it was the last one."""
    at = 0
    while at + _HEADER.size <= len(reply):
        size, kind, *_ = _HEADER.unpack_from(reply, at)
        if kind == _NLMSG_DONE:
            return True
        if kind == _NLMSG_ERROR or size < _HEADER.size:
            raise OSError(errno.EPROTO, "the kernel does not answer about sockets")
        message = reply[at + _HEADER.size : at + size]
        group = _attribute(message[_MESSAGE_BYTES:], _INET_DIAG_CGROUP_ID)
        if len(group) == 8:
            found.append((int.from_bytes(message[4:6], "big"), struct.unpack("=Q", group)[0]))
        at += (size + 3) & ~3
    return False


def _attribute(attributes: bytes, wanted: int) -> bytes:
    at = 0
    while at + 4 <= len(attributes):
        size, kind = struct.unpack_from("=HH", attributes, at)
        if size < 4:
            break
        if kind == wanted:
            return attributes[at + 4 : at + size]
        at += (size + 3) & ~3
    return b""
