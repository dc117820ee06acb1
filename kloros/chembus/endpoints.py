"""Where the proxy is: one address to publish to, one to subscribe at, one for its journal."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from kloros.chembus.curve import CurveKeys
from kloros.chembus.journal.contract import JOURNAL_SOCKET
from kloros.errors import EndpointRefused
from kloros.place import Place

PUBLISH_SOCKET = "bus.pub"
SUBSCRIBE_SOCKET = "bus.sub"
MAX_IPC_PATH_BYTES = 107  # sun_path of Linux, less its closing zero

COMPAT_PORTS = ((5558, 5559), (5556, 5557))


@dataclass(frozen=True)
class Endpoints:
    """One proxy, as ZeroMQ addresses (ipc:// or tcp://), with the keys that guard them, if any do."""

    publish: str
    subscribe: str
    keys: CurveKeys | None = None
    journal: str | None = None
    """Where durable signals are kept; None: they go out like the others, and are journaled there."""

    @classmethod
    def for_runtime_dir(cls, runtime: Path) -> Endpoints:
        """The proxy at home in that directory.

        Raises:
            EndpointRefused: The path is too long for a Unix socket.
        """
        both = cls(
            f"ipc://{runtime / PUBLISH_SOCKET}",
            f"ipc://{runtime / SUBSCRIBE_SOCKET}",
            journal=f"ipc://{runtime / JOURNAL_SOCKET}",
        )
        both.check()
        return both

    @classmethod
    def discover(cls) -> Endpoints:
        """The proxy of the suite meant here (see Place.discover)."""
        return cls.for_runtime_dir(Place.discover().runtime)

    def check(self) -> None:
        """Refuse what cannot work, and what leaves this machine without CURVE keys.

        Raises:
            EndpointRefused: Says which and why.
        """
        for endpoint in (self.publish, self.subscribe, *((self.journal,) if self.journal else ())):
            reason = _objection(endpoint, self.keys is not None)
            if reason:
                raise EndpointRefused(endpoint=endpoint, reason=reason)


def compat_endpoints() -> list[Endpoints]:
    """The two loopback TCP pairs that existing clients use."""
    return [Endpoints(f"tcp://127.0.0.1:{pub}", f"tcp://127.0.0.1:{sub}") for pub, sub in COMPAT_PORTS]


def is_remote(endpoint: str) -> bool:
    """Whether the address leaves this machine."""
    if not endpoint.startswith("tcp://"):
        return False
    host = endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def _objection(endpoint: str, secured: bool) -> str | None:
    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc":
        size = len(rest.encode())
        if not rest:
            return "it names no path"
        if size > MAX_IPC_PATH_BYTES:
            return f"its path is {size} bytes, a Unix socket takes {MAX_IPC_PATH_BYTES}; choose a shorter one"
        return None
    if scheme != "tcp":
        return "only ipc:// and tcp:// are spoken here"
    port = rest.rpartition(":")[2]
    if not (port.isdigit() and int(port) <= 65_535) and port != "*":
        return "it names no port"
    if is_remote(endpoint) and not secured:
        return "it leaves this machine, and that takes CURVE keys; use ipc:// or a loopback address"
    return None
