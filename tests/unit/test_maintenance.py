"""Maintenance mode is a register: the latest change wins, in whatever order the news comes."""

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from kloros.daemon.maintenance import Maintenance

CHANGES = st.builds(
    Maintenance, suspended=st.booleans(), changed_us=st.integers(0, 100), until_us=st.none() | st.integers(0, 200)
)


@given(st.lists(CHANGES, min_size=1, max_size=5, unique_by=lambda change: change.changed_us))
def test_the_order_of_arrival_does_not_matter(changes: list[Maintenance]) -> None:
    outcomes = set()
    for order in permutations(changes):
        state = Maintenance()
        for change in order:
            state = state.merged(change)
        outcomes.add(state)
    assert len(outcomes) == 1


def test_a_tick_that_was_on_its_way_does_not_undo_what_the_operator_asked() -> None:
    suspended = Maintenance(suspended=True, changed_us=100)
    tick_sent_before_the_scheduler_knew = Maintenance(suspended=False, changed_us=40)
    assert suspended.merged(tick_sent_before_the_scheduler_knew).is_on(101)


def test_it_ends_by_itself_at_the_agreed_moment() -> None:
    state = Maintenance(suspended=True, changed_us=100, until_us=500)
    assert state.expires_us() == 500
    assert state.is_on(499)
    assert not state.is_on(500)


def test_a_reason_is_kept_as_long_as_can_be_told_each_second() -> None:
    assert len(Maintenance().merged(Maintenance(suspended=True, changed_us=1, reason="x" * 1_000_000)).reason) == 200


def test_when_off_nothing_expires() -> None:
    assert Maintenance(suspended=False, until_us=500).expires_us() is None


@given(CHANGES, st.integers(0, 100), st.integers(-100, 0))
def test_no_change_lies_ahead_of_the_clock_and_only_one_that_did_is_moved(
    change: Maintenance, now_us: int, step_us: int
) -> None:
    rewound = change.rewound(now_us, step_us)
    assert rewound.changed_us <= now_us
    assert (rewound is change) == (change.changed_us <= now_us)
    assert (rewound.suspended, rewound.until_us) == (change.suspended, change.until_us)


def test_what_was_asked_after_a_step_back_is_later_than_what_was_asked_before() -> None:
    suspended = Maintenance(suspended=True, changed_us=10_000).rewound(7_000, step_us=-3_600)
    assert suspended.changed_us == 6_400
    assert not suspended.merged(Maintenance(suspended=False, changed_us=6_500)).is_on(7_000)
