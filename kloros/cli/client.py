"""The bus as a verb uses it: connect, ask, listen for a while, go."""

from __future__ import annotations

import os
import pwd
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from kloros.chembus.endpoints import Endpoints
from kloros.chembus.envelope import Message
from kloros.chembus.facts import ChangedFacts, ControlFacts, Facts
from kloros.chembus.poller import Poller
from kloros.chembus.zmq_bus import ZmqBus
from kloros.clock import Clock, SystemClock
from kloros.errors import BusUnreachable, NoBus, SchedulerSilent
from kloros.place import BUS_SOCKET, SYSTEM_RUNTIME_DIR, Place

JOIN_TIMEOUT_S = 2.0
CONTROL_TIMEOUT_S = 2.0
# A verb that listens without a limit still looks up this often, so that a lost bus can be told.
_LOOK_UP_S = 1.0


class Client:
    """A joined bus connection that hears `topics`. Use it in a `with`.

    `on_bus_change` is called by `messages` when the bus went away, or came back.
    """

    def __init__(
        self, *topics: str, place: Place | None = None, name: str = "kloros_cli", timeout_s: float = JOIN_TIMEOUT_S
    ) -> None:
        """Raises BusUnreachable when there is no bus, or it does not answer."""
        self.place = place or Place.discover()
        self.clock: Clock = SystemClock()
        self._waiting: deque[Message] = deque()
        self.on_bus_change: Callable[[bool], None] = lambda _is_joined: None
        require_bus(self.place)
        self.bus = ZmqBus(Endpoints.for_runtime_dir(self.place.runtime), name=name, niche="cli", clock=self.clock)
        try:
            for topic in topics:
                self.bus.subscribe(topic)
            self.bus.join(timeout_s)
        except BaseException:
            self.bus.close()
            raise
        self._was_joined = True
        self._poller = Poller()
        self._poller.register(self.bus)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bus.close()

    def emit(self, signal: str, facts: Facts | dict[str, Any] | None = None, **envelope: Any) -> str:
        """Send it and return its id. Raises BusUnreachable when it could not go out."""
        message_id = self.bus.emit(signal, facts, **envelope)
        if message_id is None:
            raise BusUnreachable(endpoint=self.place.runtime / BUS_SOCKET, timeout_s=0)
        return message_id

    def messages(self, timeout_s: float | None) -> Iterator[Message]:
        """What arrives until `timeout_s` have passed; for ever when None."""
        end_s = None if timeout_s is None else self.clock.monotonic_s() + timeout_s
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            left_s = _LOOK_UP_S if end_s is None else end_s - self.clock.monotonic_s()
            if left_s <= 0:
                return
            self._waiting.extend(self.bus.receive())
            self._note_bus()
            if not self._waiting:
                self._poller.wait(min(left_s, _LOOK_UP_S))

    def take(self) -> list[Message]:
        """What has arrived so far; never waits."""
        self._waiting.extend(self.bus.receive())
        self._note_bus()
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    def wake_on(self, descriptor: int) -> None:
        """Have `wait` return for it too."""
        self._poller.register(descriptor)

    def wait(self, timeout_s: float) -> None:
        """Wait until something may have arrived, at most so long."""
        if not self._waiting:
            self._poller.wait(timeout_s)

    def _note_bus(self) -> None:
        if self.bus.joined != self._was_joined:
            self._was_joined = self.bus.joined
            self.on_bus_change(self._was_joined)

    def now_ts(self) -> float:
        """Wall time in epoch seconds."""
        return self.clock.wall_us() / 1e6


def require_bus(place: Place) -> None:
    """Say at once what is wrong when there is nothing to connect to. Raises NoBus."""
    socket = place.runtime / BUS_SOCKET
    if SYSTEM_RUNTIME_DIR.is_dir() and not os.access(SYSTEM_RUNTIME_DIR, os.X_OK):
        hint = f"You may not look into {SYSTEM_RUNTIME_DIR}: be root or a member of group kloros."
    else:
        hint = "Start the suite with `kloros run`, or under systemd with `systemctl start kloros.target`."
    try:
        is_there = socket.exists()
    except PermissionError:
        hint = f"You may not look into {socket.parent}: be root or a member of its group."
        is_there = False
    if not is_there:
        raise NoBus(endpoint=socket, hint=hint)


def requester() -> str:
    """Who asks, for the scheduler's log."""
    try:
        name = os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a user id without an account, as in some containers
        name = f"uid {os.getuid()}"
    return f"kloros command, {name}"


def control(wish: ControlFacts, place: Place | None = None) -> ChangedFacts:
    """Ask the scheduler and return its answer. Raises SchedulerSilent."""
    with Client("Q_SCHEDULE_CHANGED", place=place) as client:
        return ask_scheduler(client, wish)


def ask_scheduler(client: Client, wish: ControlFacts) -> ChangedFacts:
    """As `control`, on a client that hears Q_SCHEDULE_CHANGED."""
    wish.requester = requester()
    request_id = client.emit("Q_SCHEDULE_CONTROL", wish)
    for message in client.messages(CONTROL_TIMEOUT_S):
        if isinstance(answer := message.facts, ChangedFacts) and answer.request_id == request_id:
            return answer
    raise SchedulerSilent(timeout_s=CONTROL_TIMEOUT_S)
