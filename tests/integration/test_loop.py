"""The daemon's loop on the machine's own clock and descriptors."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from kloros.clock import SystemClock
from kloros.daemon.loop import Loop, signals_handled


@pytest.fixture
def loop() -> Iterator[Loop]:
    ready = Loop(SystemClock())
    yield ready
    ready.close()


def test_a_wall_deadline_fires_once_and_never_before_it_is_due(loop: Loop) -> None:
    clock = SystemClock()
    fired: list[int] = []
    due_us = clock.wall_us() + 30_000
    loop.at_wall("beat", due_us, lambda: fired.append(clock.wall_us()))
    loop.at_monotonic("end", clock.monotonic_s() + 0.1, loop.stop)
    loop.run()
    assert len(fired) == 1
    assert fired[0] >= due_us


def test_a_deadline_in_the_past_fires_at_once(loop: Loop) -> None:
    loop.at_wall("beat", 1, loop.stop)
    loop.run()


def test_a_replaced_deadline_is_forgotten(loop: Loop) -> None:
    clock = SystemClock()
    loop.at_wall("beat", clock.wall_us() + 10_000, lambda: pytest.fail("this deadline was replaced"))
    loop.at_wall("beat", clock.wall_us() + 20_000, loop.stop)
    loop.run()


def test_deadlines_set_inside_deadlines_are_served(loop: Loop) -> None:
    clock = SystemClock()
    beats: list[int] = []

    def beat() -> None:
        beats.append(1)
        loop.at_wall("beat", clock.wall_us() + 1_000, beat if len(beats) < 50 else loop.stop)

    loop.at_wall("beat", clock.wall_us(), beat)
    loop.run()
    assert len(beats) == 50


def test_work_from_another_thread_wakes_the_loop(loop: Loop) -> None:
    seen: list[int] = []
    threads = [threading.Thread(target=lambda n=n: loop.call_soon(lambda: seen.append(n))) for n in range(100)]
    loop.every("look", 0.001, lambda: loop.stop() if len(seen) == 100 else None)
    for thread in threads:
        thread.start()
    loop.run()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(100))


def test_signals_reach_the_loop_and_their_handlers_are_put_back(loop: Loop) -> None:
    before = signal.getsignal(signal.SIGTERM)
    reloads: list[int] = []
    with signals_handled(loop, on_stop=loop.stop, on_reload=lambda: reloads.append(1)):
        os.kill(os.getpid(), signal.SIGHUP)
        loop.call_soon(lambda: os.kill(os.getpid(), signal.SIGTERM))
        loop.run()
    assert reloads == [1]
    assert signal.getsignal(signal.SIGTERM) is before


def test_work_that_ends_after_the_loop_is_closed_touches_no_descriptor() -> None:
    loop = Loop(SystemClock())
    fd = loop.wake_fd
    loop.close()
    stranger = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]  # one of them gets the loop's number
    assert fd in stranger
    loop.call_soon(lambda: None)
    loop.stop()
    for each in stranger:
        os.close(each)


def test_a_source_that_was_removed_is_not_called_any_more(loop: Loop) -> None:
    read_fd, write_fd = os.pipe()
    os.write(write_fd, b"x")
    loop.add_source(read_fd, lambda: pytest.fail("it was removed"))
    loop.remove_source(read_fd)
    loop.remove_source(read_fd)
    loop.turn(0.0)
    os.close(read_fd)
    os.close(write_fd)
