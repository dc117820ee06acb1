"""The smaller parts of the command: loading a consumer, settings as TOML, the run's log, being asked to stop."""

import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest
import tomli_w
from support.verb import Verb

from kloros.cli.app import call
from kloros.cli.config import READERS, without_nothing
from kloros.cli.consume import load_consumer
from kloros.cli.module_versions import root_of_artifacts
from kloros.cli.names import complete_schedule, complete_signal
from kloros.cli.roll_call import EXPECTED
from kloros.cli.running.log import RunLog
from kloros.cli.running.stopping import StopAsked
from kloros.cli.running.suite import SUITE
from kloros.errors import NotAConsumer
from kloros.storage import artifacts

CONSUMERS = """
from kloros.daemon.consumer import Consumer
class Good(Consumer):
    schedule, signal, interval_s = "good", "Q_TRIGGER_GOOD", 5.0
    def cycle(self, cycle): pass
class Idle(Consumer):
    schedule, signal, interval_s = "idle", "Q_TRIGGER_IDLE", 5.0
class Nameless(Consumer):
    interval_s = 5.0
    def cycle(self, cycle): pass
class Stranger: pass
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine_cli_test.py").write_text(CONSUMERS)
    (tmp_path / "broken_cli_test.py").write_text("x = 1 / 0\n")
    (tmp_path / "needy_cli_test.py").write_text("import no_such_package_of_mine\n")
    (tmp_path / "wrong_cli_test.py").write_text("def f(:\n")
    return tmp_path


def test_a_consumer_is_loaded_by_its_name(modules: Path) -> None:
    assert load_consumer("mine_cli_test:Good").schedule == "good"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("mine_cli_test", "package.module:Class"),
        ("mine_cli_test:", "package.module:Class"),
        ("mine_cli_test:Godo", "has no Godo .its consumers: Good, Idle, Nameless"),
        ("mine_cli_test:Stranger", "no class derived from"),
        ("mine_cli_test:Idle", "must have a method cycle"),
        ("mine_cli_test:Nameless", "must set schedule, signal"),
        ("nowhere_cli_test:Good", "there is no module nowhere_cli_test"),
        ("needy_cli_test:Good", "it needs no_such_package_of_mine"),
        ("broken_cli_test:Good", r"ZeroDivisionError: division by zero .*broken_cli_test.py, line 1"),
        ("wrong_cli_test:Good", r"SyntaxError: .*wrong_cli_test.py, line 1"),
    ],
)
def test_what_cannot_be_run_is_explained(modules: Path, target: str, message: str) -> None:
    with pytest.raises(NotAConsumer, match=message):
        load_consumer(target)


@pytest.mark.parametrize("name", READERS)
def test_the_settings_in_force_can_be_written_and_read_back(name: str) -> None:
    path = Path(__file__).parents[2] / "config" / name
    settings = READERS[name](path)
    text = tomli_w.dumps(without_nothing(msgspec.to_builtins(settings)))
    assert msgspec.convert(tomllib.loads(text), type(settings)) == settings


def test_every_settings_file_that_is_shipped_has_its_reader() -> None:
    shipped = {path.name for path in (Path(__file__).parents[2] / "config").glob("*.toml")}
    assert shipped <= set(READERS)


def test_the_shell_completes_schedules_and_signals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KLOROS_CONFIG_DIR", str(Path(__file__).parents[2] / "config"))
    assert complete_schedule("intro") == ["introspection_scan"]
    assert "Q_TRIGGER_CURIOSITY" in complete_signal("Q_TRIGGER_C")
    monkeypatch.setenv("KLOROS_CONFIG_DIR", str(tmp_path))
    assert complete_schedule("") == []


def test_the_log_of_a_run_is_bounded_and_keeps_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "state" / "run.log"
    for text in ("first run\n", "second run\n"):
        log = RunLog(path)
        log.write(text)
        log.close()
    assert (path.read_text(), path.with_name("run.log.1").read_text()) == ("second run\n", "first run\n")
    log = RunLog(path, max_bytes=1000)
    for _ in range(100):
        log.write("x" * 99 + "\n")
    log.close()
    assert path.stat().st_size <= 1200


def test_a_log_that_cannot_be_written_loses_lines_not_the_suite(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "run.log")
    log.close()
    assert log.write("too late\n") == 0
    (tmp_path / "file").touch()
    nowhere = RunLog(tmp_path / "file" / "state" / "run.log")
    assert nowhere.write("lost\n") == 0
    assert "Not a directory" in str(nowhere)
    nowhere.close()


def test_the_first_order_to_stop_is_remembered_and_later_ones_are_forgotten() -> None:
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        with StopAsked() as stop:
            assert not stop
            signal.raise_signal(signal.SIGTERM)
            assert stop
        signal.raise_signal(signal.SIGINT)  # ignored: the process is ending already
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def test_who_reacts_is_started_before_who_fires() -> None:
    zooids = [daemon.zooid for daemon in SUITE]
    assert zooids[:3] == ["chem_proxy_daemon", "chembus_historian_daemon", "ledger_writer_daemon"]
    assert zooids[-1] == "scheduler_daemon"
    assert sorted(zooids) == sorted(EXPECTED)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nonsense"], 2, "nonsense"),
        (["schedule", "set", "x"], 2, "--interval"),
        (["schedule", "set", "x", "--interval", "soon"], 2, "not a duration"),
        (["schedule", "set", "x", "--pace", "0"], 2, "0"),
        (["bus", "emit", "Q_TRIGGER_CURIOSTY"], 2, "did you mean Q_TRIGGER_CURIOSITY?"),
        (["bus", "emit", "HEARTBEAT", "x=1", "--facts", "{}"], 2, "not both"),
        (["config", "dump", "nonsense"], 2, "is none of"),
        (["schedule", "plot", "--since", "999999d"], 2, "is not a moment"),
        (["schedule", "plot", "--simulate", "1e300"], 2, "not in the range"),
        (["schedule", "plot", "--simulate", "nan"], 2, "not a number"),
        (["schedule", "simulate", "--hours", "nan"], 2, "not a number"),
        (["why", "introspection_scan@99999999999999999999"], 2, "is not a moment"),
        (["affect", "emit", "CRITICAL_FATIGUE", "--for", "99999999999d", "--ttl", "1s"], 2, "longer than 100 years"),
        (["bus", "history", "--limit", "99999999999999999999"], 2, "not in the range"),
        (["bus", "replay", "--from", "1m", "--wait", "1e300"], 2, "not in the range"),
        (["bus", "hz", "--seconds", "nan"], 2, "not a number"),
        (["status"], 3, "There is no bus at"),
        (["schedule", "show"], 3, "kloros run"),
    ],
)
def test_a_wrong_call_is_one_clear_message(
    arguments: list[str],
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KLOROS_RUNTIME_DIR", str(tmp_path))
    assert call(arguments) == code
    told = capsys.readouterr()
    assert words in told.err
    assert told.out == ""


def test_a_module_with_nothing_to_take_back_or_to_activate_says_so_to_programs_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KLOROS_STATE_DIR", str(tmp_path / "state"))
    kloros = Verb(capsys)
    nothing = {"module": "semantic_dedup", "artifact": None, "done": False}
    assert kloros.json("module", "rollback", "semantic_dedup") == nothing
    assert kloros("module", "rollback", "semantic_dedup") == 0
    assert "there is nothing to take back" in kloros.out
    (tmp_path / "mine.toml").write_text("")
    staged = kloros.json("module", "stage", "semantic_dedup", str(tmp_path / "mine.toml"), "--version", "mine")
    artifacts.make_current(root_of_artifacts(), "semantic_dedup", "mine", staged["sha256"])
    there = {"module": "semantic_dedup", "artifact": "semantic_dedup/mine", "done": False}
    assert kloros.json("module", "activate", "semantic_dedup", "mine") == there
    assert kloros("module", "activate", "semantic_dedup", "mine") == 0
    assert kloros.out == "semantic_dedup runs with mine already\n"


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["--version"]) == 0
    assert capsys.readouterr().out.startswith("kloros 0.")


def test_no_verb_imports_at_start_what_only_daemons_need() -> None:
    heavy = ("structlog", "prometheus_client", "psutil", "rich", "zmq", "kloros.chembus", "kloros.daemon", "asyncio")
    script = f"import sys, kloros.cli.app; print([name for name in {heavy!r} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
