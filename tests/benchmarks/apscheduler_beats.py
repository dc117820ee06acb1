"""APScheduler 3 as the scheduler: a BackgroundScheduler whose jobs publish through bare pyzmq, as bare.py's beats do.

Usage: apscheduler_beats.py RUNTIME --jobs FILE --body-bytes N

Its defaults, but for three: it may not skip, merge or refuse a run, because every contender has to emit every beat.
"""

from __future__ import annotations

import argparse
import json
import logging
import threading
from datetime import UTC, datetime
from pathlib import Path

import zmq
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger
from bare import body_of, publisher, wall_us

_START_IN_US = 1_000_000
_SETUP_US_PER_JOB = 400
_NEVER_SKIP = {"coalesce": False, "misfire_grace_time": None, "max_instances": 1_000_000}


class Job:
    """One job; knows which of its beats comes next, because APScheduler does not tell it."""

    def __init__(self, topic: bytes, first_us: int, interval_us: int) -> None:
        self.topic, self.due_us, self.interval_us = topic, first_us, interval_us


def main() -> None:
    """Run until killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runtime")
    parser.add_argument("--jobs", type=Path, required=True)
    parser.add_argument("--body-bytes", type=int, default=400)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    jobs = json.loads(given.jobs.read_text())
    padding = b"x" * (given.body_bytes - 16)
    socket, lock = publisher(given.runtime), threading.Lock()

    def emit(job: Job) -> None:
        with lock:
            due_us = job.due_us
            job.due_us += job.interval_us
            emitted_us = wall_us()
            socket.send(job.topic, zmq.SNDMORE)
            socket.send(body_of(due_us, emitted_us, padding))

    scheduler = BackgroundScheduler(job_defaults=_NEVER_SKIP, timezone=UTC)
    start_us = wall_us() + _START_IN_US + _SETUP_US_PER_JOB * len(jobs)
    for each in jobs:
        interval_us = each["interval_us"]
        first_us = (start_us // interval_us + 1) * interval_us + each["offset_us"] % interval_us
        start = datetime.fromtimestamp(first_us // 1_000_000, UTC).replace(microsecond=first_us % 1_000_000)
        trigger = IntervalTrigger(seconds=interval_us / 1e6, start_date=start, timezone=UTC)
        scheduler.add_job(emit, trigger, args=[Job(each["signal"].encode(), first_us, interval_us)])
    scheduler.start()
    if wall_us() > start_us:
        raise SystemExit("the jobs took longer to set up than was planned for")
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
