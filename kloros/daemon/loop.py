"""The one loop of a daemon: sockets, one absolute wall-clock timer, monotonic timers, one wake-up descriptor."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

from kloros.chembus.poller import Poller
from kloros.clock import Clock
from kloros.units import us_to_seconds

Callback = Callable[[], None]

# How long the loop waits at most when nothing is due: bounds what a missed wake-up could cost.
_LONGEST_WAIT_S = 60.0


@dataclass
class _Timer:
    due_s: float
    interval_s: float | None
    callback: Callback


class Loop:
    """Runs callbacks in one thread. Only `call_soon` and `stop` may be used from another thread or a signal handler."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._poller = Poller()
        self._sources: dict[object, Callback] = {}
        self._wall: dict[str, tuple[int, Callback]] = {}
        self._timers: dict[str, _Timer] = {}
        self._soon: deque[Callback] = deque()
        self._wall_timer = clock.timer()
        self._wake_read_fd, self.wake_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wake_lock = threading.RLock()  # a signal handler may interrupt its holder
        self._stopping = self._is_closed = False
        self.on_clock_step: Callback = lambda: None
        self.add_source(self._wake_read_fd, self._run_soon)
        if self._wall_timer.fileno() >= 0:
            self.add_source(self._wall_timer.fileno(), lambda: None)

    def add_source(self, source: object, callback: Callback) -> None:
        """Call `callback` whenever `source` (a descriptor or a bus) can be read."""
        self._poller.register(source)
        self._sources[source] = callback

    def remove_source(self, source: object) -> None:
        """Wait on `source` no longer; a stranger is ignored."""
        self._poller.unregister(source)
        self._sources.pop(source, None)

    def at_wall(self, name: str, due_us: int | None, callback: Callback) -> None:
        """Call once when the wall clock reaches `due_us`; replaces the deadline of that name, None removes it."""
        if due_us is None:
            self._wall.pop(name, None)
        else:
            self._wall[name] = (due_us, callback)

    def every(self, name: str, interval_s: float, callback: Callback) -> None:
        """Call each `interval_s` of monotonic time; a late call is not made up for."""
        self._timers[name] = _Timer(self._clock.monotonic_s() + interval_s, interval_s, callback)

    def at_monotonic(self, name: str, due_s: float | None, callback: Callback = lambda: None) -> None:
        """Call once at monotonic time `due_s`; replaces the deadline of that name, None removes it."""
        if due_s is None:
            self._timers.pop(name, None)
        else:
            self._timers[name] = _Timer(due_s, None, callback)

    def call_soon(self, callback: Callback) -> None:
        """Call from the loop's thread, at once. Safe from any thread."""
        self._soon.append(callback)
        self._wake()

    def stop(self) -> None:
        """Leave `run` after the callback that is running. Safe from any thread."""
        self._stopping = True
        self._wake()

    def run(self) -> None:
        """Serve sources and timers until `stop`."""
        while not self._stopping:
            self._wall_timer.arm(min((due_us for due_us, _ in self._wall.values()), default=None))
            self.turn(self.next_wait_s())

    def turn(self, timeout_s: float) -> None:
        """One round: wait at most `timeout_s` for a source, then run what is ready and what is due."""
        for source in self._poller.wait(timeout_s):
            if callback := self._sources.get(source):
                callback()
        if self._wall_timer.read().clock_stepped:
            self.on_clock_step()
        self._run_wall()
        self._run_timers()

    def close(self) -> None:
        """Release the descriptors."""
        self._wall_timer.close()
        with self._wake_lock:
            self._is_closed = True
            os.close(self._wake_read_fd)
            os.close(self.wake_fd)

    def next_wait_s(self) -> float:
        """How long nothing is due; zero when something is."""
        now_s = self._clock.monotonic_s()
        waits_s = [timer.due_s - now_s for timer in self._timers.values()]
        if self._wall_timer.fileno() < 0:
            now_us = self._clock.wall_us()
            waits_s += [us_to_seconds(due_us - now_us) for due_us, _ in self._wall.values()]
        return max(0.0, min(waits_s, default=_LONGEST_WAIT_S))

    def _wake(self) -> None:
        # A worker that ends late may call after `close`, when the number of the descriptor may be someone else's.
        with self._wake_lock, suppress(BlockingIOError):  # a full pipe wakes the loop just as well
            if not self._is_closed:
                os.write(self.wake_fd, b"\0")

    def _run_soon(self) -> None:
        os.read(self._wake_read_fd, 4096)
        while self._soon:
            self._soon.popleft()()

    def _run_wall(self) -> None:
        now_us = self._clock.wall_us()
        for name, (due_us, callback) in list(self._wall.items()):
            if due_us <= now_us and self._wall.get(name) == (due_us, callback):
                del self._wall[name]
                callback()

    def _run_timers(self) -> None:
        now_s = self._clock.monotonic_s()
        for name, timer in list(self._timers.items()):
            if timer.due_s > now_s or self._timers.get(name) is not timer:
                continue
            if timer.interval_s is None:
                del self._timers[name]
            else:
                timer.due_s = max(timer.due_s + timer.interval_s, now_s)
            timer.callback()


@contextmanager
def signals_handled(loop: Loop, on_stop: Callback, on_reload: Callback) -> Iterator[None]:
    """SIGTERM and SIGINT call `on_stop` in the loop, a second one ends the process at once; SIGHUP calls `on_reload`.

    The previous handlers come back at the end. Main thread only.
    """
    asked = False

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + number)
        asked = True
        loop.call_soon(on_stop)

    def reload(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon(on_reload)

    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload}
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    # The interpreter runs handlers between bytecodes; the descriptor makes sure that a waiting loop gets there.
    previous_wake_fd = signal.set_wakeup_fd(loop.wake_fd, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous_wake_fd)
        for number, handler in previous.items():
            signal.signal(number, handler)
