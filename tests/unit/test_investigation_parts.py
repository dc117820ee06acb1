"""Systemd's lines, programs' own words, and the order in which questions are taken."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros.chembus.facts_work import QuestionFacts
from kloros.consumers.investigation.backlog import (
    MOST_WORTH,
    Bottleneck,
    Waiting,
    in_order,
    is_urgent,
    judge,
    least_valuable,
    worth_of,
)
from kloros.consumers.investigation.ends import read_life
from kloros.consumers.investigation.entries import entry_of, unit_of_zooid
from kloros.consumers.investigation.evidence import MAX_LINES, Evidence, evidence_hash, lasting, several, size
from kloros.consumers.investigation.outcome import bounded, ended
from kloros.consumers.investigation.samples import Sample, Samples, growth, telling_directory
from kloros.consumers.investigation.troubles import (
    last_trouble,
    path_in,
    port_in,
    ports_among,
    telling_line,
    trouble_in,
)

US = 1_000_000


def life(*lines: str, step_s: float = 1.0):
    return read_life((round(1_000 * US + number * step_s * US), line) for number, line in enumerate(lines))


class TestSystemdsLines:
    def test_a_missing_program_told_before_the_start_is(self) -> None:
        told = life(
            "x.service: Changing to the requested working directory failed: No such file or directory",
            "x.service: Failed at step CHDIR spawning /bin/true: No such file or directory",
            "Started x.service.", "x.service: Main process exited, code=exited, status=200/CHDIR",
            "x.service: Failed with result 'exit-code'.", step_s=0.001,
        )  # fmt: skip
        assert (told.step, told.step_program) == ("CHDIR", "/bin/true")
        assert told.step_reason == "No such file or directory"
        assert told.last is not None
        assert told.last.status == 200

    def test_a_crash_loop_is_given_up_until_it_is_started_again(self) -> None:
        round_ = (
            "Started x.service.", "x.service: Main process exited, code=exited, status=3/NOTIMPLEMENTED",
            "x.service: Failed with result 'exit-code'.",
            "x.service: Scheduled restart job, restart counter is at 5.", "Stopped x.service.",
        )  # fmt: skip
        end = ("x.service: Start request repeated too quickly.", "x.service: Failed with result 'exit-code'.")
        told = life(*round_ * 5, *end)
        assert (told.gave_up, told.restarts, len(told.ends)) == (True, 5, 5)
        assert told.longest_run_s == 1.0
        assert not life(*round_ * 5, *end, "Started x.service.").gave_up

    def test_what_ended_an_earlier_run_is_not_held_against_a_later_one(self) -> None:
        told = life(
            "Started x.service.", "x.service: Watchdog timeout (limit 1s)!",
            "x.service: Main process exited, code=killed, status=6/ABRT", "x.service: Failed with result 'watchdog'.",
            "Started x.service.", "x.service: Main process exited, code=exited, status=1/FAILURE",
            "x.service: Failed with result 'exit-code'.",
        )  # fmt: skip
        assert (told.result, told.watchdog) == ("exit-code", "")
        assert told.kills == ["ABRT"]

    def test_one_that_was_restarted_keeps_the_reason_of_its_last_end(self) -> None:
        told = life(
            "Started x.service.",
            "x.service: Sent signal SIGKILL to main process 9 (sleep) on client request.",
            "x.service: Main process exited, code=killed, status=9/KILL", "x.service: Failed with result 'signal'.",
            "x.service: Scheduled restart job, restart counter is at 1.", "Stopped x.service.", "Started x.service.",
        )  # fmt: skip
        assert (told.result, told.sent, told.kills) == ("signal", ["KILL"], ["KILL"])

    @pytest.mark.parametrize(
        ("line", "which"),
        [
            ("x.service: start operation timed out. Terminating.", "start"),
            ("x.service: start-pre operation timed out. Terminating.", "start"),
            ("x.service: State 'stop-sigterm' timed out. Killing.", "stop"),
            ("x.service: State 'final-sigterm' timed out. Killing.", "stop"),
        ],
    )
    def test_time_outs_of_the_start_and_of_the_stop(self, line: str, which: str) -> None:
        assert life("Starting x.service...", line, "x.service: Failed with result 'timeout'.").timed_out == which

    def test_starting_and_started_are_one_start(self) -> None:
        told = life("Starting x.service...", "Started x.service.", "x.service: Deactivated successfully.")
        assert len(told.starts_us) == 1
        assert told.longest_run_s == 2.0

    def test_the_first_line_that_names_a_line_of_the_unit_file_is_the_reason(self) -> None:
        told = life(
            '/etc/systemd/system/x.service:3: Unbalanced quoting, ignoring: "/bin/echo',
            "x.service: Unit configuration has fatal error, unit will not be started.",
        )
        assert "Unbalanced quoting" in told.unit_file_line

    def test_dependencies_and_the_out_of_memory_killer(self) -> None:
        assert life("Dependency failed for Shop.").dependency
        assert life("Started x.service.", "x.service: A process of this unit has been killed by the OOM killer.").oom

    @given(st.lists(st.tuples(st.integers(0, 2**60), st.text()), max_size=30))
    def test_any_lines_are_read(self, lines: list[tuple[int, str]]) -> None:
        read_life(lines)


class TestOwnWords:
    @pytest.mark.parametrize(
        ("line", "kind"),
        [
            ("nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)", "address_in_use"),
            ("OSError: [Errno 98] Address already in use", "address_in_use"),
            ("Error: listen EADDRINUSE: address already in use :::3000", "address_in_use"),
            ("sqlite3.OperationalError: database or disk is full", "no_space"),
            ("write /var/lib/x: no space left on device", "no_space"),
            ("mkdir /srv/x: read-only file system", "read_only"),
            ("accept4: too many open files", "too_many_files"),
            ("open: Too many open files in system", "machine_files"),
            ("RuntimeError: can't start new thread", "no_threads"),
            ("bash: fork: retry: Resource temporarily unavailable", "no_threads"),
            ("java.lang.OutOfMemoryError: Java heap space", "no_memory"),
            ("x509: certificate has expired or is not yet valid", "certificate"),
            ("ssl.SSLCertVerificationError: certificate verify failed: self-signed certificate", "certificate"),
            ("socket.gaierror: [Errno -3] Temporary failure in name resolution", "name_resolution"),
            ("dial tcp: lookup db.example: no such host", "name_resolution"),
            ("shop: error while loading shared libraries: libfoo.so.1: cannot open shared object", "missing_library"),
            ("ModuleNotFoundError: No module named 'shop'", "missing_library"),
            ('nginx: [emerg] unknown directive "sever" in /etc/nginx/nginx.conf:3', "config_syntax"),
            ("tomllib.TOMLDecodeError: Invalid value (at line 1, column 5)", "config_syntax"),
            ("sshd: /etc/ssh/sshd_config line 3: Bad configuration option: Prot", "config_syntax"),
            ("could not acquire exclusive lock: another instance is running", "already_running"),
            ("PermissionError: [Errno 13] Permission denied: '/srv/key'", "permission_denied"),
            ("connect: Connection refused", "connection_refused"),
            ("connect: No route to host", "unreachable"),
            ("psycopg.OperationalError: connection timed out", "timed_out"),
            ("EXT4-fs error: Input/output error reading block 7", "io_error"),
            ("shop[9]: segfault at 0 ip 000055 sp 00007f error 4 in shop", "segfault"),
            ("cat: /srv/absent: No such file or directory", "missing_file"),
        ],
    )
    def test_known_troubles(self, line: str, kind: str) -> None:
        found = trouble_in(line)
        assert found is not None
        assert found.kind == kind

    @pytest.mark.parametrize("line", ["all is well", "", "listening on port 80", "0 errors", "loaded 3 plugins"])
    def test_no_trouble(self, line: str) -> None:
        assert trouble_in(line) is None

    def test_what_comes_last_is_what_it_died_of(self) -> None:
        found = last_trouble(["cache: permission denied, going on", "bind: address already in use", "bye"])
        assert found is not None
        assert found.kind == "address_in_use"
        assert telling_line(["begin", "ERROR: out of cheese", "bye"]) == "ERROR: out of cheese"
        assert telling_line(["begin", "bye"]) == "bye"
        assert telling_line([]) == ""

    def test_paths_and_ports(self) -> None:
        assert path_in("PermissionError: [Errno 13] Permission denied: '/srv/a b'") == "/srv/a"
        assert path_in("cp: cannot open '/a/b' for reading: Permission denied") == "/a/b"
        assert path_in("no path: n/a") is None
        assert port_in("bind() to 0.0.0.0:80 failed") == 80
        assert port_in("address already in use :::3000") == 3000
        assert port_in("port 99999 is odd") is None
        assert ports_among(["--listen=0.0.0.0:8080", "9090", "-m", "x", "70000", "9090"]) == [8080, 9090]

    @given(st.text(max_size=300))
    def test_any_line_is_read(self, line: str) -> None:
        trouble_in(line)
        path_in(line)
        port_in(line)


def question(**facts: object) -> QuestionFacts:
    return msgspec.convert({"question_id": "q", "question": "?", **facts}, QuestionFacts)


def waiting(number: int, worth: float, arrived_s: float) -> Waiting:
    return Waiting(f"q-{number}", worth, False, round(arrived_s * US), 0.0)


class TestOrder:
    def test_value_for_cost(self) -> None:
        assert worth_of(question(value_estimate=0.9, cost_estimate=0.3)) == pytest.approx(3.0)
        assert worth_of(question(value_estimate=0.5, cost_estimate=0.0)) == MOST_WORTH
        assert worth_of(question()) == 1.0
        assert worth_of(question(value_estimate=-3.0)) == 0.0

    def test_who_is_urgent_has_no_more_worth_for_that(self) -> None:
        assert is_urgent(question(severity="critical"))
        assert is_urgent(question(priority="EMERGENCY"))
        assert not is_urgent(question(priority="HIGH", severity="high"))
        assert worth_of(question(priority="EMERGENCY", severity="critical")) == 1.0

    def test_the_most_valuable_first_and_of_equals_the_oldest(self) -> None:
        row = [waiting(1, 1.0, 0.0), waiting(2, 3.0, 5.0), waiting(3, 3.0, 2.0)]
        assert [each.question_id for each in in_order(row, 10 * US, 600.0)] == ["q-3", "q-2", "q-1"]

    def test_the_least_valuable_is_refused_and_of_equals_the_newest(self) -> None:
        row = [waiting(1, 1.0, 0.0), waiting(2, 1.0, 5.0), waiting(3, 3.0, 9.0)]
        assert least_valuable(row).question_id == "q-2"

    @given(st.floats(0, MOST_WORTH), st.integers(1, 200))
    def test_none_starves(self, worth: float, beats: int) -> None:
        """However many of the greatest worth come with each beat, one that waits is first within a bounded time."""
        old = waiting(0, worth, 0.0)
        bound_s = (MOST_WORTH - worth) * 600.0 + 1.0
        late = [waiting(n, MOST_WORTH, bound_s + n) for n in range(1, beats)]
        assert in_order([*late, old], round((bound_s + beats) * US), 600.0)[0] == old

    @given(st.lists(st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 2**50)), max_size=20))
    def test_the_order_keeps_all(self, given_: list[tuple[float, int]]) -> None:
        row = [Waiting(f"q-{n}", worth, False, arrived, 0.0) for n, (worth, arrived) in enumerate(given_)]
        assert sorted(in_order(row, 0, 600.0)) == sorted(row)

    @given(st.lists(st.integers(0, 120), max_size=60))
    def test_a_bottleneck_is_announced_once_each_time(self, depths: list[int]) -> None:
        state, announced = Bottleneck(), 0
        for depth in depths:
            before, state = state, judge(state, depth, 50, 25)
            announced += state.is_on and not before.is_on
            assert not (state.is_on and depth <= 25)
            assert state.is_on or depth <= 50
        assert state.times == announced

    def test_between_the_marks_nothing_changes(self) -> None:
        on = judge(Bottleneck(), 51, 50, 25)
        assert on.is_on
        assert judge(on, 26, 50, 25) == on
        assert not judge(on, 25, 50, 25).is_on
        assert not judge(Bottleneck(), 50, 50, 25).is_on


class TestEvidence:
    def test_it_stays_readable(self) -> None:
        evidence = Evidence(playbook="p", subject="s")
        for number in range(100):
            evidence.note(f"line {number} \n " + "x" * 1_000)
        evidence.note("line 0 " + "x" * 1_000)
        assert len(evidence.lines) == MAX_LINES
        assert max(map(len, evidence.lines)) <= 300
        assert "\n" not in evidence.lines[0]

    def test_what_is_not_known_is_left_out(self) -> None:
        evidence = Evidence(playbook="p", subject="s")
        evidence.saw(a=None, b=0, c="x")
        assert evidence.seen == {"b": 0, "c": "x"}
        assert (evidence.text("a"), evidence.number("a"), evidence.holds("b"), evidence.names("c")) == (
            "",
            0.0,
            False,
            [],
        )

    def test_the_hash_does_not_depend_on_the_order(self) -> None:
        assert evidence_hash(["b", "a"]) == evidence_hash(["a", "b"]) != evidence_hash(["a"])
        assert len(evidence_hash([])) == 16

    def test_amounts_as_people_write_them(self) -> None:
        assert [size(each) for each in (0, 2048, 5 << 20, 1.5 * (1 << 30))] == [
            "0 bytes",
            "2.0 KiB",
            "5.0 MiB",
            "1.5 GiB",
        ]
        assert [lasting(each) for each in (0.04, 1.0, 90, 600, 7200, 259_200)] == [
            "40 ms", "1.0 s", "90 s", "10 min", "2 h", "3 days",
        ]  # fmt: skip
        assert several(["a", "b", "c"], most=2) == "a, b and 1 more"


class TestSamples:
    def test_what_grew_is_told_where_it_grew(self) -> None:
        before = {"/": 100, "/a": 60, "/a/b": 50, "/c": 40}
        now = {"/": 300, "/a": 250, "/a/b": 240, "/c": 50}
        assert growth(before, now) == [("/a/b", 190), ("/c", 10)]
        assert growth(now, now) == []

    def test_the_directory_that_holds_most(self) -> None:
        sizes = [("/", 100), ("/a", 90), ("/a/b", 80), ("/a/b/c", 20), ("/d", 5)]
        assert telling_directory(sizes, "/") == ("/a/b", 80)
        assert telling_directory([("/srv", 0)], "/srv") is None

    def test_only_so_many_mounts_are_remembered(self) -> None:
        samples = Samples()
        assert samples.swap("/0", Sample(1, {})) is None
        for number in range(100):
            samples.swap(f"/{number}", Sample(2, {}))
        assert len(samples.snapshot()) == 32
        assert samples.swap("/99", Sample(3, {})) == Sample(2, {})


class TestEntries:
    def test_those_that_may_rest(self) -> None:
        assert entry_of("kloros-decay.service", {}) == "memory_decay"
        assert (
            entry_of("kloros-consumer@disk_report:DiskReport.service", {"disk_report": "disk_report"}) == "disk_report"
        )

    @pytest.mark.parametrize("name", ["introspection", "scheduler", "chem-proxy", "chembus-historian", "ledger-writer"])
    def test_those_that_may_not(self, name: str) -> None:
        assert entry_of(f"kloros-{name}.service", {}) == ""
        assert entry_of("nginx.service", {}) == ""

    def test_a_daemons_unit(self) -> None:
        assert unit_of_zooid("action_consumer_daemon") == "kloros-action-consumer.service"


def test_a_question_that_is_far_too_long_is_told_of_in_short() -> None:
    long = "x" * 100_000
    asked = question(question=long, gap_name=long, evidence=[long] * 1_000, capability_key=long, category=long)
    facts = ended(bounded(asked), "refused", "no")
    assert len(msgspec.json.encode(facts)) < 64_000
    assert facts.question_id == "q"
