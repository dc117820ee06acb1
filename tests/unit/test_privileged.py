"""What the privileged helper may do: the policy's judgement, and the file it comes from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros.config import load
from kloros.errors import ConfigError, HelperFailed, HelperRefused
from kloros.machine import privileged
from kloros.machine.privileged_journal import vacuum
from kloros.machine.privileged_limits import Limits, Where
from kloros.machine.privileged_manager import SystemdManager
from kloros.machine.privileged_policy import (
    INFINITY,
    HelperPolicy,
    JournalPolicy,
    LimitsPolicy,
    UnitsPolicy,
    load_policy,
    raised,
    refusal,
)
from kloros.machine.privileged_protocol import (
    Property,
    ResetFailed,
    Restart,
    RevertLimit,
    SetLimit,
    Start,
    VacuumJournal,
    decode_request,
)

import msgspec  # isort: skip

SHIPPED = Path(__file__).parents[2] / "config/helper_policy.toml"
DEFAULT = HelperPolicy()
GIB = 1 << 30
NAMES = st.from_regex(r"[a-z@.\\:-]{1,12}\.service", fullmatch=True)


def test_the_shipped_policy_is_the_default() -> None:
    assert load(SHIPPED, HelperPolicy) == DEFAULT


@given(name=NAMES)
def test_by_default_only_units_of_the_suite_may_be_touched(name: str) -> None:
    for request in (
        Restart(unit=name), Start(unit=name), ResetFailed(unit=name), RevertLimit(unit=name, property="MemoryMax"),
        SetLimit(unit=name, property="MemoryMax", factor=1.5),
    ):  # fmt: skip
        is_ours = name.startswith("kloros-") and not name.startswith("kloros-helper")
        assert (refusal(request, DEFAULT) is None) == is_ours


@given(name=NAMES)
def test_nothing_opens_the_way_to_the_helper_itself(name: str) -> None:
    units = UnitsPolicy(restart=("*",), start=("*",), reset_failed=("*",), limit=("*",))
    assert refusal(Restart(unit=f"kloros-helper{name}"), HelperPolicy(units=units)) is not None


def test_each_verb_has_patterns_of_its_own() -> None:
    units = UnitsPolicy(restart=("a.service",), start=(), reset_failed=("b*",), limit=("c.service",))
    policy = HelperPolicy(units=units)
    assert refusal(Restart(unit="a.service"), policy) is None
    assert refusal(Start(unit="a.service"), policy) is not None
    assert refusal(ResetFailed(unit="bb.service"), policy) is None
    assert refusal(Restart(unit="bb.service"), policy) is not None
    assert refusal(RevertLimit(unit="c.service", property="TasksMax"), policy) is None


def test_the_journal_keeps_what_the_policy_says() -> None:
    assert refusal(VacuumJournal(keep_mb=500), DEFAULT) is None
    assert refusal(VacuumJournal(keep_mb=499), DEFAULT) is not None
    assert refusal(VacuumJournal(keep_mb=10_000), HelperPolicy(journal=JournalPolicy(vacuum=False))) is not None


@given(
    name=st.sampled_from(["MemoryMax", "TasksMax", "LimitNOFILE"]),
    before=st.integers(0, INFINITY),
    factor=st.floats(1, 100, exclude_min=True),
    memory=st.integers(1, 1 << 50),
    at_most=st.floats(1.01, 2),
    share=st.floats(0.01, 1),
)
def test_a_raise_grows_and_stays_within_every_bound(
    name: Property, before: int, factor: float, memory: int, at_most: float, share: float
) -> None:
    policy = HelperPolicy(limits=LimitsPolicy(factor_at_most=at_most, memory_share_at_most=share))
    after = raised(name, before, factor, policy, memory)
    if isinstance(after, int):
        assert before < after <= max(before + 1, before * min(factor, at_most))
        assert name != "MemoryMax" or after <= memory * share
        assert name != "TasksMax" or after <= 16_384
        assert name != "LimitNOFILE" or after <= 524_288


def test_what_has_no_limit_gets_none() -> None:
    assert isinstance(raised("MemoryMax", INFINITY, 1.5, DEFAULT, GIB), str)
    assert isinstance(raised("TasksMax", 0, 1.5, DEFAULT, GIB), str)
    assert raised("MemoryMax", 100_000_000, 1.5, DEFAULT, 24 * GIB) == 150_000_000


@given(st.binary(max_size=300))
def test_only_a_whole_request_is_one(line: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_request(line)


@pytest.mark.parametrize("unit", ["a/b.service", "../x.service", "x", "x.scope", "", ".", "x.service\n", "é.service"])
def test_a_name_that_is_no_units_is_no_request(unit: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_request(msgspec.json.encode({"verb": "start", "unit": unit}))


# The file


def policy_file(folder: Path, text: str = "", mode: int = 0o644) -> Path:
    path = folder / "policy.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_policy_is_read(tmp_path: Path) -> None:
    path = policy_file(tmp_path, '[units]\nrestart = ["nginx.service"]\n')
    assert load_policy(path, os.getuid()).units.restart == ("nginx.service",)


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_policy_that_others_could_write_is_none(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match="only root can write"):
        load_policy(policy_file(tmp_path, mode=mode), os.getuid())


def test_a_policy_of_somebody_elses_a_link_nothing_and_nonsense_are_none(tmp_path: Path) -> None:
    path = policy_file(tmp_path)
    with pytest.raises(ConfigError):
        load_policy(path, os.getuid() + 1)
    link = tmp_path / "link"
    link.symlink_to(path)
    for wrong in (link, tmp_path / "nothing", tmp_path):
        with pytest.raises(ConfigError):
            load_policy(wrong, os.getuid())
    for text in ("[units", "[units]\nrestart = 1", "[limits]\nfactor_at_most = 2.5", "[unit]\nrestart = []"):
        with pytest.raises(ConfigError):
            load_policy(policy_file(tmp_path, text), os.getuid())


# Limits, with a systemd of straw


class Straw:
    """A systemd that keeps drop-ins and remembers what unit files say."""

    def __init__(self, where: Where, files: dict[str, int]) -> None:
        self.where, self.files, self.in_force = where, files, dict(files)
        self.fails = self.is_late = False

    def set_property(self, unit: str, name: str, value: int, *, persistent: bool) -> None:
        if self.fails:
            raise HelperFailed(reason="systemd says: no")
        folder = self.where.lasting_drop_ins if persistent else self.where.runtime_drop_ins
        drop_in = folder / f"{unit}.d" / f"50-{name}.conf"
        drop_in.parent.mkdir(parents=True)
        drop_in.write_text(str(value))
        self.in_force[name] = value
        if self.is_late:
            raise HelperFailed(reason="systemd did not answer")

    def reload(self) -> None:
        if self.is_late:
            raise HelperFailed(reason="systemd did not answer")
        self.in_force = dict(self.files)

    def read(self, unit: str, kind: str, name: str) -> object:
        return self.in_force[name]


@pytest.fixture
def where(tmp_path: Path) -> Where:
    folders = [tmp_path / name for name in ("run", "var", "run-drop-ins", "etc-drop-ins")]
    for folder in folders:
        folder.mkdir()
    return Where(*folders)


SET = SetLimit(unit="a.service", property="MemoryMax", factor=1.5)
REVERT = RevertLimit(unit="a.service", property="MemoryMax")


def test_a_raise_and_its_inverse_leave_nothing(where: Where) -> None:
    straw = Straw(where, {"MemoryMax": 1000})
    limits = Limits(straw, DEFAULT, GIB, where)
    assert (limits.set(SET).before, straw.in_force["MemoryMax"]) == (1000, 1500)
    assert (limits.revert(REVERT).after, straw.in_force["MemoryMax"]) == (1000, 1000)
    left = [path for folder in (where.runtime_records, where.runtime_drop_ins) for path in folder.rglob("*")]
    assert [path.name for path in left] == ["lock"]


@pytest.mark.parametrize("is_taken_back", [False, True])
def test_a_raise_that_fails_stands_in_nobodys_way(where: Where, is_taken_back: bool) -> None:
    straw = Straw(where, {"MemoryMax": 1000})
    straw.fails = True
    limits = Limits(straw, DEFAULT, GIB, where)
    with pytest.raises(HelperFailed):
        limits.set(SET)
    if is_taken_back:
        assert limits.revert(REVERT).after == 1000
        with pytest.raises(HelperRefused, match="was not raised"):
            limits.revert(REVERT)
    straw.fails = False
    assert limits.set(SET).after == 1500


def test_a_raise_that_was_answered_too_late_can_be_taken_back(where: Where) -> None:
    straw = Straw(where, {"MemoryMax": 1000})
    straw.is_late = True
    limits = Limits(straw, DEFAULT, GIB, where)
    with pytest.raises(HelperFailed):
        limits.set(SET)
    straw.is_late = False
    assert straw.in_force["MemoryMax"] == 1500
    with pytest.raises(HelperRefused, match="already"):
        limits.set(SET)
    assert (limits.revert(REVERT).after, straw.in_force["MemoryMax"]) == (1000, 1000)


def test_taking_back_that_failed_half_way_is_done_the_next_time(where: Where) -> None:
    straw = Straw(where, {"MemoryMax": 1000})
    limits = Limits(straw, DEFAULT, GIB, where)
    limits.set(SET)
    straw.is_late = True
    with pytest.raises(HelperFailed):
        limits.revert(REVERT)
    with pytest.raises(HelperFailed):
        limits.set(SET)
    straw.is_late = False
    assert (limits.revert(REVERT).after, straw.in_force["MemoryMax"]) == (1000, 1000)
    assert limits.set(SET).before == 1000


class Aliased(SystemdManager):
    """Knows one unit, by two names."""

    straw: Straw

    def __init__(self) -> None:
        """There is no connection."""

    def read(self, unit: str, kind: str, name: str) -> object:
        return {"LoadState": "loaded", "Id": "kloros-a.service"}.get(name) or self.straw.read(unit, kind, name)

    def set_property(self, unit: str, name: str, value: int, *, persistent: bool) -> None:
        self.straw.set_property("kloros-a.service", name, value, persistent=persistent)

    def reload(self) -> None:
        self.straw.reload()

    def close(self) -> None:
        """Nothing was opened."""


def test_a_raise_by_an_alias_is_the_units_own(where: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    Aliased.straw = Straw(where, {"MemoryMax": 100_000_000})
    monkeypatch.setattr(privileged, "SystemdManager", Aliased)
    monkeypatch.setattr(privileged, "Where", lambda: where)
    by_alias = SetLimit(unit="kloros-b.service", property="MemoryMax", factor=1.5)
    assert privileged.do(by_alias, DEFAULT).after == 150_000_000
    for unit in ("kloros-a.service", "kloros-b.service"):
        with pytest.raises(HelperRefused, match="already"):
            privileged.do(SetLimit(unit=unit, property="MemoryMax", factor=1.5), DEFAULT)
    back = privileged.do(RevertLimit(unit="kloros-b.service", property="MemoryMax"), DEFAULT)
    assert (back.outcome, back.after) == ("done", 100_000_000)


def test_a_journal_that_is_small_enough_is_left_alone(tmp_path: Path) -> None:
    command = tmp_path / "journalctl"
    command.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\n')
    command.chmod(0o755)
    assert vacuum(VacuumJournal(keep_mb=1 << 30), str(command)).outcome == "done"
    assert not (tmp_path / "said").exists()
    assert vacuum(VacuumJournal(keep_mb=1), str(command), directories=[_filled(tmp_path)]).outcome == "done"
    assert (tmp_path / "said").read_text() == "--quiet --rotate\n--quiet --vacuum-size=1M\n"


def _filled(folder: Path) -> Path:
    (folder / "journal" / "machine").mkdir(parents=True)
    (folder / "journal" / "machine" / "system.journal").write_bytes(b"x" * (2 << 20))
    return folder / "journal"


def test_a_raise_that_somebody_else_took_back_is_forgotten(where: Where) -> None:
    straw = Straw(where, {"MemoryMax": 1000})
    limits = Limits(straw, DEFAULT, GIB, where)
    limits.set(SET)
    with pytest.raises(HelperRefused, match="already"):
        limits.set(SET)
    (drop_in,) = where.runtime_drop_ins.rglob("*.conf")
    drop_in.unlink()
    drop_in.parent.rmdir()
    straw.reload()
    assert limits.set(SET).before == 1000


def test_a_unit_whose_files_were_changed_meanwhile_is_told(where: Where) -> None:
    straw = Straw(where, {"MemoryMax": 1000})
    limits = Limits(straw, DEFAULT, GIB, where)
    limits.set(SET)
    straw.files["MemoryMax"] = 1200
    answer = limits.revert(REVERT)
    assert (answer.outcome, answer.after) == ("failed", 1200)
