from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros.chembus.incarnation import new_pub, parse_pub, this_boot
from kloros.chembus.seqs import DUPLICATE, FIRST_SEEN, SeqTracker
from kloros.clock import VirtualClock


def test_in_order_is_nothing_to_report() -> None:
    tracker = SeqTracker()
    assert tracker.observe("p", "S", 1) == FIRST_SEEN
    assert tracker.begin("p", "S", 1, from_one=True) == 0
    assert [tracker.observe("p", "S", seq) for seq in (2, 3, 4)] == [0, 0, 0]


def test_a_jump_is_a_gap_and_a_step_back_a_duplicate() -> None:
    tracker = SeqTracker()
    tracker.begin("p", "S", 5, from_one=False)
    assert tracker.observe("p", "S", 9) == 3
    assert tracker.observe("p", "S", 9) == DUPLICATE
    assert tracker.observe("p", "S", 7) == DUPLICATE
    assert tracker.observe("p", "S", 10) == 0


def test_signals_and_publishers_are_counted_apart() -> None:
    tracker = SeqTracker()
    tracker.begin("p", "S", 5, from_one=False)
    assert tracker.observe("p", "T", 1) == FIRST_SEEN
    assert tracker.observe("q", "S", 1) == FIRST_SEEN


@pytest.mark.parametrize(("from_one", "missing"), [(True, 6), (False, 0)])
def test_the_first_message_tells_a_gap_only_if_we_were_there_first(from_one: bool, missing: int) -> None:
    assert SeqTracker().begin("p", "S", 7, from_one=from_one) == missing


def test_a_heartbeat_reveals_a_lost_tail_once() -> None:
    tracker = SeqTracker()
    tracker.begin("p", "S", 7, from_one=False)
    assert tracker.reconcile("p", "S", 10, from_one=False) == 3
    assert tracker.reconcile("p", "S", 10, from_one=False) == 0
    assert tracker.observe("p", "S", 11) == 0


def test_what_was_reached_needs_no_reconciling() -> None:
    tracker = SeqTracker()
    assert not tracker.has_reached("p", "S", 1)
    tracker.begin("p", "S", 7, from_one=False)
    assert tracker.has_reached("p", "S", 7)
    assert not tracker.has_reached("p", "S", 8)
    assert not tracker.has_reached("p", "T", 1)


def test_a_heartbeat_about_what_was_never_heard() -> None:
    assert SeqTracker().reconcile("p", "S", 10, from_one=True) == 10
    late = SeqTracker()
    assert late.reconcile("p", "S", 10, from_one=False) == 0
    assert late.observe("p", "S", 12) == 1
    assert late.reconcile("p", "S", 0, from_one=True) == 0


def test_the_table_is_bounded_and_forgets_the_silent_first() -> None:
    tracker = SeqTracker(limit=8)
    tracker.begin("loud", "S", 1, from_one=False)
    for number in range(100):
        tracker.begin(f"p{number}", "S", 1, from_one=False)
        assert tracker.observe("loud", "S", number + 2) == 0
        assert len(tracker) <= 8
    assert tracker.forgotten > 0
    assert tracker.observe("p0", "S", 2) == FIRST_SEEN
    assert tracker.begin("p0", "S", 50, from_one=True) == 0  # it may be one that was forgotten: no false alarm


def test_a_table_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="room"):
        SeqTracker(limit=1)


# What the way does to each message: it arrives, is lost, or arrives twice. None restarts the publisher.
_fates = st.lists(st.sampled_from(["arrives", "lost", "twice", "restart"]), max_size=200)


@given(streams=st.lists(_fates, min_size=1, max_size=4), closes=st.booleans())
def test_arrived_and_missing_make_sent(streams: list[list[str]], closes: bool) -> None:
    tracker = SeqTracker(limit=100_000)
    sent = arrived = missing = duplicates = expected_duplicates = unknown_tail = 0

    def take(pub: str, seq: int) -> None:
        nonlocal arrived, missing, duplicates
        found = tracker.observe(pub, "S", seq)
        if found == DUPLICATE:
            duplicates += 1
            return
        if found == FIRST_SEEN:
            found = tracker.begin(pub, "S", seq, from_one=True)
        arrived += 1
        missing += found

    for number, fates in enumerate(streams):
        run, seq, tail = 0, 0, 0
        for fate in [*fates, "restart"]:
            pub = f"{number}.{run}"
            if fate == "restart":
                if closes:
                    missing += tracker.reconcile(pub, "S", seq, from_one=True)
                else:
                    unknown_tail += tail
                run, seq, tail = run + 1, 0, 0
                continue
            sent, seq = sent + 1, seq + 1
            tail = tail + 1 if fate == "lost" else 0
            if fate != "lost":
                take(pub, seq)
            if fate == "twice":
                take(pub, seq)
                expected_duplicates += 1
    assert arrived + missing + unknown_tail == sent
    assert duplicates == expected_duplicates


def test_a_publishers_name_tells_when_it_began() -> None:
    clock = VirtualClock(monotonic_s=12.5)
    pub = new_pub("scheduler_daemon", clock)
    assert pub.startswith("scheduler_daemon@")
    started = parse_pub(pub)
    assert started is not None
    assert started.boot == this_boot()
    assert started.started_us == 12_500_000
    assert new_pub("scheduler_daemon", clock) != pub


@pytest.mark.parametrize(
    "pub", ["", "p", "a@b", "a@b.c.d", "a@.1.x", "a@b.1", "a@b.-1.x", "a@b.\u0661.x", "a@b." + "9" * 30 + ".x"]
)
def test_a_strange_publishers_name_tells_nothing(pub: str) -> None:
    assert parse_pub(pub) is None


@given(st.text())
def test_no_publishers_name_is_too_strange(pub: str) -> None:
    parse_pub(pub)


def test_names_with_an_at_sign_are_read_from_their_end() -> None:
    started = parse_pub(new_pub("a@b.1.c", VirtualClock(monotonic_s=3.0)))
    assert started is not None
    assert started.started_us == 3_000_000
