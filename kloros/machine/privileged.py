"""The privileged helper: does one of a few things as root, for root or the user kloros, if root's policy allows it.

systemd starts it for each connection to kloros-helper.socket (its standard input) and it ends after one answer. It is
the only part of the suite that runs as root, so it is small, knows no option, and takes nothing from its environment.
"""

from __future__ import annotations

import os
import pwd
import socket
import struct
import sys
from pathlib import Path

import msgspec

from kloros.errors import ConfigError, HelperFailed, HelperRefused, KlorosError
from kloros.machine.privileged_journal import vacuum
from kloros.machine.privileged_limits import Limits, Where
from kloros.machine.privileged_manager import SystemdManager
from kloros.machine.privileged_policy import HelperPolicy, load_policy, refusal, refusal_of_unit
from kloros.machine.privileged_protocol import (
    MOST_BYTES,
    Answer,
    AnyRequest,
    ResetFailed,
    Restart,
    RevertLimit,
    SetLimit,
    VacuumJournal,
    decode_request,
)

POLICY_FILE = Path("/etc/kloros/helper_policy.toml")
USER = "kloros"
_PATIENCE_S = 5.0
_CREDENTIALS = struct.Struct("iII")
_NOTICE, _WARNING = 5, 4


def main() -> int:
    """Answer the one who is connected to standard input."""
    with socket.socket(fileno=os.dup(0)) as connection:
        connection.settimeout(_PATIENCE_S)
        serve(connection, POLICY_FILE)
    return 0


def serve(connection: socket.socket, policy_file: Path) -> None:
    """Read one request, do it or not, answer, and say in the log who asked for what."""
    pid, uid, _gid = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    asked = "nothing that can be read"
    try:
        if uid not in _known_uids():
            raise HelperRefused(reason=f"uid {uid} may not ask for anything")
        request = _read(connection)
        asked = msgspec.json.encode(request).decode()
        answer = do(request, load_policy(policy_file))
    except HelperRefused as error:
        answer = Answer(outcome="refused", reason=error.reason)
    except ConfigError as error:
        answer = Answer(outcome="refused", reason=f"without a policy nothing is allowed: {error}")
    except (KlorosError, OSError) as error:
        answer = Answer(outcome="failed", reason=str(getattr(error, "reason", error)))
    _log(pid, uid, asked, answer)
    try:
        connection.sendall(msgspec.json.encode(answer) + b"\n")
    except OSError:
        _say(_WARNING, f"uid {uid} (process {pid}) did not wait for its answer")


def do(request: AnyRequest, policy: HelperPolicy) -> Answer:
    """What is asked, if the policy allows it. Raises HelperRefused, HelperFailed."""
    if (why := refusal(request, policy)) is not None:
        raise HelperRefused(reason=why)
    if isinstance(request, VacuumJournal):
        return vacuum(request)
    manager = SystemdManager()
    try:
        request = msgspec.structs.replace(request, unit=_real_name(manager, request, policy))
        if isinstance(request, SetLimit | RevertLimit):
            limits = Limits(manager, policy, _memory_bytes(), Where())
            return limits.set(request) if isinstance(request, SetLimit) else limits.revert(request)
        if isinstance(request, ResetFailed):
            manager.reset_failed(request.unit)
        elif isinstance(request, Restart):
            manager.restart(request.unit)
        else:
            manager.start(request.unit)
    finally:
        manager.close()
    return Answer(outcome="done")


def _real_name(manager: SystemdManager, request: AnyRequest, policy: HelperPolicy) -> str:
    """A unit may have aliases: what is allowed for one of them must be allowed for the unit, and is done to it."""
    assert not isinstance(request, VacuumJournal)
    if manager.read(request.unit, "Unit", "LoadState") != "loaded":
        raise HelperFailed(reason=f"there is no unit {request.unit} that could be loaded")
    name = str(manager.read(request.unit, "Unit", "Id"))
    if (why := refusal_of_unit(name, request, policy)) is not None:
        raise HelperRefused(reason=why)
    return name


def _read(connection: socket.socket) -> AnyRequest:
    """One line. Raises HelperRefused for anything else."""
    line = b""
    try:
        while not line.endswith(b"\n") and len(line) <= MOST_BYTES and (part := connection.recv(MOST_BYTES)):
            line += part
        if len(line) > MOST_BYTES:
            raise HelperRefused(reason=f"a request has at most {MOST_BYTES} bytes")
        return decode_request(line)
    except msgspec.DecodeError as error:
        raise HelperRefused(reason=f"that is no request: {error}") from error
    except OSError as error:
        raise HelperRefused(reason=f"no request came within {_PATIENCE_S:g} s") from error


def _known_uids() -> set[int]:
    try:
        return {0, pwd.getpwnam(USER).pw_uid}
    except KeyError:
        return {0}


def _memory_bytes() -> int:
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    if pages <= 0 or page_bytes <= 0:
        raise HelperFailed(reason="the size of the machine's memory is unknown")
    return pages * page_bytes


def _log(pid: int, uid: int, asked: str, answer: Answer) -> None:
    came_of_it = msgspec.json.encode(answer).decode()
    _say(_NOTICE if answer.outcome == "done" else _WARNING, f"uid {uid} (process {pid}) asked {asked}: {came_of_it}")


def _say(priority: int, line: str) -> None:
    sys.stderr.write(f"<{priority}>{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
