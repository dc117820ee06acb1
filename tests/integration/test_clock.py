"""The machine's clock, and the timer that wakes on its deadline and on a step."""

import select
import time

import pytest

from kloros.clock import SystemClock, TimerFd, VirtualClock
from kloros.units import seconds_to_us, us_to_seconds


def test_a_timer_is_silent_before_its_deadline_and_readable_after() -> None:
    clock, timer = SystemClock(), TimerFd()
    timer.arm(clock.wall_us() + 20_000)
    assert timer.read() == (False, False)
    select.select([timer.fileno()], [], [], 2)
    assert timer.read() == (True, False)
    assert timer.read() == (False, False)
    timer.close()


def test_a_timer_can_be_armed_again_for_the_moment_it_fired_at() -> None:
    clock, timer = SystemClock(), TimerFd()
    due_us = clock.wall_us()
    for _ in range(2):
        timer.arm(due_us)
        assert select.select([timer.fileno()], [], [], 2)[0]
        assert timer.read().fired
    timer.close()


def test_setting_the_wall_clock_wakes_the_timer_at_once() -> None:
    timer = TimerFd()
    try:
        time.clock_settime_ns(time.CLOCK_REALTIME, time.time_ns())  # to what it is: a step of nothing, but a step
    except PermissionError:
        pytest.skip("setting the clock needs CAP_SYS_TIME")
    assert select.select([timer.fileno()], [], [], 2)[0]
    assert timer.read() == (False, True)
    assert timer.read() == (False, False)
    timer.close()


@pytest.mark.parametrize("us", [0, 1, 1_700_000_000_123_456, 253_402_300_799_999_999 // 1000])
def test_the_wire_keeps_microseconds_exactly(us: int) -> None:
    assert seconds_to_us(us_to_seconds(us)) == us


def test_virtual_time_stands_still_until_advanced_and_steps_alone() -> None:
    clock = VirtualClock(wall_us=1_000_000, monotonic_s=5.0)
    timer = clock.timer()
    timer.arm(2_000_000)
    assert timer.read() == (False, False)
    clock.advance(1.0)
    assert timer.read() == (True, False)
    clock.step_wall(-10.0)
    assert timer.read() == (False, True)
    assert clock.monotonic_s() == 6.0
