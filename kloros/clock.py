"""The only file that reads time or sleeps.

Two times are kept apart. Wall time is integer microseconds since the Unix epoch: beats are due in it, and it may step.
Monotonic time is float seconds from an arbitrary start: time-outs are counted in it, and it never steps.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import time
from typing import NamedTuple, Protocol

from kloros.units import US_PER_S, seconds_to_us, us_to_seconds


class TimerEvent(NamedTuple):
    """What a wall timer had to say: the deadline passed, or the wall clock was stepped."""

    fired: bool
    clock_stepped: bool


class WallTimer(Protocol):
    """One absolute wall-clock deadline that a poller can wait on."""

    def fileno(self) -> int:
        """A descriptor that is readable once the deadline passed or the clock stepped; -1 when there is none."""

    def arm(self, due_us: int | None) -> None:
        """Set the only deadline (wall microseconds); None disarms."""

    def read(self) -> TimerEvent:
        """Take what happened since the last read, without blocking."""

    def close(self) -> None:
        """Release the descriptor."""


class Clock(Protocol):
    """Where time comes from; handed in, never imported."""

    def wall_us(self) -> int:
        """Microseconds since the Unix epoch."""

    def monotonic_s(self) -> float:
        """Seconds that only ever grow."""

    def sleep(self, seconds: float) -> None:
        """Block for so long. For command-line tools; daemons set deadlines instead."""

    def timer(self) -> WallTimer:
        """A new, disarmed wall timer."""

    def synchronised(self) -> bool | None:
        """Whether the kernel calls its clock synchronised; None where it does not tell."""


class SystemClock:
    """The machine's own time."""

    def wall_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def timer(self) -> WallTimer:
        try:
            return TimerFd()
        except OSError:
            return PollTimer(self)

    def synchronised(self) -> bool | None:
        return _kernel_clock_synchronised()


class VirtualClock:
    """Time under a test's thumb: it stands still until it is advanced."""

    def __init__(self, wall_us: int = 1_700_000_000 * US_PER_S, monotonic_s: float = 0.0) -> None:
        self._wall_us = wall_us
        self._monotonic_s = monotonic_s
        self._steps = 0

    def wall_us(self) -> int:
        return self._wall_us

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Let both times pass."""
        self._wall_us += seconds_to_us(seconds)
        self._monotonic_s += seconds

    def step_wall(self, seconds: float) -> None:
        """Step the wall clock alone, as an operator or NTP does."""
        self._wall_us += seconds_to_us(seconds)
        self._steps += 1

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    @property
    def steps(self) -> int:
        """How often the wall clock was stepped."""
        return self._steps

    def timer(self) -> WallTimer:
        return VirtualTimer(self)

    def synchronised(self) -> bool | None:
        return True


class VirtualTimer:
    """A wall timer over a VirtualClock; it has no descriptor."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._due_us: int | None = None
        self._steps_seen = clock.steps

    def fileno(self) -> int:
        return -1

    def arm(self, due_us: int | None) -> None:
        self._due_us = due_us

    def read(self) -> TimerEvent:
        stepped = self._clock.steps != self._steps_seen
        self._steps_seen = self._clock.steps
        fired = self._due_us is not None and self._clock.wall_us() >= self._due_us
        return TimerEvent(fired, stepped)

    def close(self) -> None:
        self._due_us = None


class PollTimer:
    """A wall timer for kernels without timerfd: the loop's poll time-out waits, steps are seen by comparison.

    STEP_TOLERANCE_S: how far wall and monotonic time may part between two reads before it counts as a step.
    """

    STEP_TOLERANCE_S = 0.5

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due_us: int | None = None
        self._offset_s = self._wall_minus_monotonic_s()

    def _wall_minus_monotonic_s(self) -> float:
        return us_to_seconds(self._clock.wall_us()) - self._clock.monotonic_s()

    def fileno(self) -> int:
        return -1

    def arm(self, due_us: int | None) -> None:
        self._due_us = due_us

    def read(self) -> TimerEvent:
        offset_s = self._wall_minus_monotonic_s()
        stepped = abs(offset_s - self._offset_s) > self.STEP_TOLERANCE_S
        self._offset_s = offset_s
        return TimerEvent(self._due_us is not None and self._clock.wall_us() >= self._due_us, stepped)

    def close(self) -> None:
        self._due_us = None


# <sys/timerfd.h>; os.timerfd_create exists from Python 3.13 on, ctypes serves every version alike.
_TFD_TIMER_ABSTIME = 1
_TFD_TIMER_CANCEL_ON_SET = 2
_TFD_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
# A deadline far away keeps a disarmed timer able to report clock steps (year 2200).
_FAR_AWAY_US = 7_258_118_400 * US_PER_S


class TimerFd:
    """A Linux timerfd on CLOCK_REALTIME that wakes on its deadline and at once when the clock is stepped."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        try:
            self._fd: int = self._libc.timerfd_create(time.CLOCK_REALTIME, _TFD_NONBLOCK_CLOEXEC)
        except AttributeError as error:
            raise OSError(errno.ENOSYS, "no timerfd in this libc") from error
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._armed_us = _FAR_AWAY_US
        self._settime(_FAR_AWAY_US)

    def fileno(self) -> int:
        return self._fd

    def arm(self, due_us: int | None) -> None:
        due_us = _FAR_AWAY_US if due_us is None else due_us
        if due_us != self._armed_us:
            self._settime(due_us)
            self._armed_us = due_us

    def _settime(self, due_us: int) -> None:
        seconds, us = divmod(max(due_us, 1), US_PER_S)  # zero would disarm
        spec = struct.pack("@4q", 0, 0, seconds, us * 1000)
        flags = _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET
        if self._libc.timerfd_settime(self._fd, flags, spec, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def read(self) -> TimerEvent:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return TimerEvent(False, False)
        except OSError as error:
            if error.errno != errno.ECANCELED:
                raise
            self._settime(self._armed_us)
            return TimerEvent(False, True)
        self._armed_us = 0  # it fired: the same deadline must be set again to be heard again
        return TimerEvent(True, False)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


# <sys/timex.h>: adjtimex() returns TIME_ERROR when the clock is not synchronised.
_TIME_ERROR = 5
_TIMEX_BYTES = 512  # struct timex is 208 bytes on 64-bit Linux; spare room costs nothing


def _kernel_clock_synchronised() -> bool | None:
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    try:
        state: int = libc.adjtimex(buffer)
    except AttributeError:
        return None
    return None if state < 0 else state != _TIME_ERROR
