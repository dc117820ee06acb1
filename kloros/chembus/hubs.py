"""The hubs of this process: made for the first ChemSub of a proxy, gone with the last."""

from __future__ import annotations

import atexit
import os
import threading

from kloros.chembus.endpoints import Endpoints
from kloros.chembus.hub import Hub, Member
from kloros.chembus.zmq_bus import ZmqBus
from kloros.clock import Clock


class Hubs:
    """The hubs of this process, one per proxy, each for as long as someone is served by it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._serving: dict[tuple[Endpoints, bool], tuple[Hub, list[Member]]] = {}

    def attach(self, endpoints: Endpoints, open_facts: bool, member: Member, clock: Clock) -> None:
        """Serve a subscription, by a new hub if need be, which then serves those too whose hub has failed."""
        with self._lock:
            key = (endpoints, open_facts)
            before, members = self._serving.get(key, (None, []))
            if before is not None and before.alive():
                members.append(member)
                before.attach(member)
                return
            bus = ZmqBus(endpoints, name=member.zooid_name, niche=member.niche, clock=clock, open_facts=open_facts)
            hub = Hub(bus, clock, member)
            members.append(member)
            self._serving[key] = (hub, members)
            for each in members:
                hub.attach(each)
        if before is not None:
            before.stop()

    def detach(self, member: Member) -> None:
        """Serve it no longer; the last one takes the hub with it."""
        idle: Hub | None = None
        with self._lock:
            for key, (hub, members) in list(self._serving.items()):
                if member in members:
                    members.remove(member)
                    hub.detach(member)
                    if not members:
                        del self._serving[key]
                        idle = hub
        if idle:
            idle.stop()

    def forget(self) -> None:
        """Serve nobody, and touch nothing: threads and sockets stayed with the parent of this forked process."""
        self._lock = threading.Lock()
        self._serving = {}

    def stop_all(self) -> None:
        """End every hub: the process is leaving."""
        with self._lock:
            hubs = [hub for hub, _ in self._serving.values()]
            self._serving.clear()
        for hub in hubs:
            hub.stop()


HUBS = Hubs()
atexit.register(HUBS.stop_all)
os.register_at_fork(after_in_child=HUBS.forget)
