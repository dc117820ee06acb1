"""Why systemd could not even begin to run a unit. Pure."""

from __future__ import annotations

from collections.abc import Callable

from kloros.consumers.investigation.evidence import Evidence
from kloros.consumers.investigation.rule import Rule
from kloros.consumers.investigation.rules.helps import start_again

_EXPLAINED = {
    "STDOUT": "its standard output cannot be opened (StandardOutput=)",
    "STDERR": "its standard error cannot be opened (StandardError=)",
    "STDIN": "its standard input cannot be opened (StandardInput=)",
    "CHROOT": "its root directory cannot be used (RootDirectory=)",
    "LIMITS": "one of its resource limits cannot be set (Limit...=)",
    "CAPABILITIES": "its capabilities cannot be set",
    "CGROUP": "it cannot be put into its control group",
    "PAM": "its PAM session cannot be opened (PAMName=)",
    "NETWORK": "its network namespace cannot be set up",
    "NAMESPACE": "its file system namespace cannot be set up: a path that its sandbox names is missing or unusable",
    "SECCOMP": "its system call filter cannot be applied",
    "RUNTIME_DIRECTORY": "its runtime directory cannot be made (RuntimeDirectory=)",
    "STATE_DIRECTORY": "its state directory cannot be made (StateDirectory=)",
    "CACHE_DIRECTORY": "its cache directory cannot be made (CacheDirectory=)",
    "LOGS_DIRECTORY": "its log directory cannot be made (LogsDirectory=)",
    "CONFIGURATION_DIRECTORY": "its configuration directory cannot be made (ConfigurationDirectory=)",
    "CREDENTIALS": "a credential that it loads is missing (LoadCredential=)",
}


def step(name: str) -> Callable[[Evidence], bool]:
    """Whether the set-up failed at that step."""
    return lambda evidence: evidence.holds("is_unwell") and evidence.text("step") == name


def exec_fault(*faults: str) -> Callable[[Evidence], bool]:
    """Whether its program could not be run, for one of these reasons."""
    return lambda evidence: step("EXEC")(evidence) and evidence.text("exec_fault") in faults


def _is_missing(evidence: Evidence) -> bool:
    """It was missing when it should have run, wherever we may look now."""
    if not step("EXEC")(evidence):
        return False
    fault = evidence.text("exec_fault")
    return fault == "missing" or (fault in ("none", "unseen", "") and "No such file" in evidence.text("step_reason"))


def _is_there_now(evidence: Evidence) -> bool:
    return evidence.text("exec_fault") == "none"


def _missing(evidence: Evidence) -> str:
    unit, path = evidence.text("unit"), evidence.text("exec_path")
    if _is_there_now(evidence):
        return f"{unit} could not start because its program {path} was missing (203/EXEC); it is there now."
    changed = " Its unit file was changed shortly before." if evidence.holds("changed_before") else ""
    return f"{unit} cannot start: its program {path} does not exist (203/EXEC).{changed}"


def _unusable(evidence: Evidence) -> str:
    unit, path = evidence.text("unit"), evidence.text("exec_path")
    fault, reason = evidence.text("exec_fault"), evidence.text("step_reason") or "it cannot be executed"
    why = {
        "bad_interpreter": f"the interpreter that it names, {evidence.text('interpreter')}, does not exist",
        "directory": "it is a directory",
        "not_executable": "it is not executable",
        "bad_format": "it is neither a program nor a script with an interpreter",
    }.get(fault, reason)
    return f"{unit} cannot start: its program {path} cannot be run: {why} (203/EXEC)."


def _setup(evidence: Evidence) -> str:
    unit, name = evidence.text("unit"), evidence.text("step")
    why = _EXPLAINED.get(name, "systemd could not prepare its process")
    reason = f": {evidence.text('step_reason')}" if evidence.holds("step_reason") else ""
    return f"{unit} cannot start: {why} ({evidence.count('status')}/{name}){reason}."


def _bad_unit_file(evidence: Evidence) -> str:
    why = evidence.text("unit_file_line") or evidence.text("load_error") or evidence.text("load_state")
    return f"{evidence.text('unit')} cannot be loaded: its unit file has an error: {why}"


def _who(what: str) -> Callable[[Evidence], str]:
    def told(evidence: Evidence) -> str:
        name = evidence.text(what) or "that it names"
        there = "" if evidence.holds(f"{what}_missing") else " did not exist when it was started; it does now"
        gone = f"the {what} {name} does not exist" if not there else f"the {what} {name}{there}"
        return f"{evidence.text('unit')} cannot start: {gone} ({evidence.count('status')}/{what.upper()})."

    return told


UNIT_SETUP = (
    Rule(
        "unit_not_found", lambda e: e.holds("is_unwell") and e.text("load_state") == "not-found",
        "{unit} has no unit file: systemd finds none of that name.", 0.95,
        cure="Install what brings the unit, or remove what asks for it.",
    ),
    Rule(
        "unit_masked", lambda e: e.text("load_state") == "masked" and e.holds("is_unwell"),
        "{unit} is masked: somebody forbade it to be started.", 0.95, cure="systemctl unmask {unit}, if it should run.",
    ),
    Rule(
        "bad_unit_file", lambda e: e.holds("is_unwell") and e.text("load_state") in ("bad-setting", "error"),
        _bad_unit_file, 0.95,
        cure="Correct the unit file (systemd-analyze verify {unit}), then systemctl daemon-reload.",
    ),
    Rule(
        "missing_binary", _is_missing, _missing, 0.97,
        action=lambda e: start_again(e, "its program is there now") if _is_there_now(e) else None,
        cure="Install {exec_path}, or correct ExecStart= of {unit}.",
    ),
    Rule(
        "bad_interpreter", exec_fault("bad_interpreter"), _unusable, 0.96,
        cure="Correct the first line of {exec_path}, or install {interpreter}.",
    ),
    Rule(
        "not_executable", lambda e: exec_fault("not_executable", "directory")(e)
        or (step("EXEC")(e) and "Permission denied" in e.text("step_reason")), _unusable, 0.96,
        cure="chmod +x {exec_path}, or correct ExecStart=; look at noexec mounts and the directories above it too.",
    ),
    Rule(
        "bad_executable", step("EXEC"), _unusable, 0.9,
        cure="See that {exec_path} is a program for this machine, or a script that begins with #!.",
    ),
    Rule(
        "missing_user", step("USER"), _who("user"), 0.97,
        action=lambda e: None if e.holds("user_missing") or not e.holds("user")
        else start_again(e, "its user exists now"),
        cure="Create the user (systemd-sysusers, useradd), or correct User= of {unit}.",
    ),
    Rule(
        "missing_group", step("GROUP"), _who("group"), 0.97,
        action=lambda e: None if e.holds("group_missing") or not e.holds("group")
        else start_again(e, "its group exists now"),
        cure="Create the group (systemd-sysusers, groupadd), or correct Group= of {unit}.",
    ),
    Rule(
        "missing_directory", step("CHDIR"),
        "{unit} cannot start: its working directory {work_dir} is missing or closed to it (200/CHDIR).", 0.96,
        cure="Make {work_dir} and give it to the unit's user, or correct WorkingDirectory=.",
    ),
    Rule(
        "setup_failed", lambda e: e.holds("is_unwell") and e.holds("step"), _setup, 0.85,
        cure="systemctl status {unit} and systemd.exec(5) tell what the step needs.",
    ),
)  # fmt: skip
