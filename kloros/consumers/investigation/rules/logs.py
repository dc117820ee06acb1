"""Troubles that a program names itself: in a unit's last words, or in the errors that it logs. Pure."""

from __future__ import annotations

from collections.abc import Callable

from kloros.consumers.investigation.evidence import Evidence
from kloros.consumers.investigation.rule import Rule, Told
from kloros.consumers.investigation.rules.helps import (
    Helper,
    if_it_passes,
    raise_limit,
    start_again,
)
from kloros.consumers.investigation.rules.unit_end import limited, port_is_free


def _named(*kinds: str) -> Callable[[Evidence], bool]:
    """By a unit that failed, or in errors that are asked about."""
    return lambda evidence: (
        evidence.text("trouble") in kinds and (evidence.holds("is_unwell") or evidence.holds("is_about_errors"))
    )


def _who(evidence: Evidence) -> str:
    return evidence.text("unit") or evidence.text("source") or "A program"


def _fails(evidence: Evidence, what: str) -> str:
    verb = "fails" if evidence.holds("is_unwell") else "logs errors"
    return f"{_who(evidence)} {verb} because {what}."


def _because(what: str) -> Callable[[Evidence], str]:
    return lambda evidence: _fails(evidence, f"{what}: {evidence.text('trouble_line')}")


def _address_in_use(evidence: Evidence) -> str:
    if evidence.holds("port_holder"):
        return _fails(
            evidence, f"port {evidence.count('port')} is in use already: {evidence.text('port_holder')} has it"
        )
    if evidence.holds("port_is_free"):
        return _fails(evidence, f"port {evidence.count('port')} was in use already; it is free now")
    return _fails(evidence, "the address that it wants to listen on is in use already")


def _permission(evidence: Evidence) -> str:
    user = evidence.text("user") or "root"
    path = evidence.text("path")
    runs_as = f" (it runs as {user})" if evidence.holds("unit") else ""
    return _fails(evidence, f"it may not use {path}{runs_as}" if path else f"it lacks a permission{runs_as}"
                  f": {evidence.text('trouble_line')}")  # fmt: skip


def _no_space(evidence: Evidence) -> str:
    full = f": {evidence.text('full_mount')} is full" if evidence.holds("full_mount") else ""
    return _fails(evidence, f"there is no space left on the disk that it writes to{full}")


def _missing_file(evidence: Evidence) -> str:
    path = evidence.text("path")
    if path and evidence.holds("path_is_there"):
        return _fails(evidence, f"{path} was missing; it is there now")
    return _fails(evidence, f"{path} is missing" if path else f"a file is missing: {evidence.text('trouble_line')}")


def _rule(name: str, kind: str, says: Told, confidence: float, cure: Told, action: Helper = lambda _: None) -> Rule:
    return Rule(name, _named(kind), limited(says), confidence, action, cure)


def _limit_if_unit_failed(name: str) -> Helper:
    return lambda evidence: raise_limit(name)(evidence) if evidence.holds("unit") else None


LOGS = (
    _rule(
        "address_in_use", "address_in_use", _address_in_use, 0.95,
        "Stop the other one, or give one of them another port.", port_is_free,
    ),
    _rule(
        "no_space", "no_space", _no_space, 0.9, "Make room on that file system.",
        lambda e: start_again(e, "there is room again") if e.holds("has_room_now") else None,
    ),
    _rule("read_only", "read_only", _because("what it writes to is mounted read-only"), 0.88,
          "See why: a fault of the disk (dmesg), or its sandbox (ReadWritePaths=)."),
    _rule(
        "too_many_files", "too_many_files", _because("it has as many files open as it may (LimitNOFILE=)"), 0.88,
        "Raise LimitNOFILE=, unless it forgets to close what it opens.", _limit_if_unit_failed("LimitNOFILE"),
    ),
    _rule("machine_files", "machine_files", _because("the machine has as many files open as it may"), 0.88,
          "Find who keeps so many open (lsof), or raise fs.file-max."),
    _rule(
        "no_threads", "no_threads", _because("it may not have more processes or threads (TasksMax=)"), 0.85,
        "Raise TasksMax=, unless it forgets to end what it starts.", _limit_if_unit_failed("TasksMax"),
    ),
    _rule(
        "no_memory", "no_memory", _because("it could not get the memory that it asked for"), 0.82,
        "Give it more memory, or find out why it needs so much.",
        lambda e: raise_limit("MemoryMax")(e) if e.holds("memory_was_full") else None,
    ),
    _rule("certificate_failure", "certificate", _because("a certificate is not accepted"), 0.9,
          "Renew the certificate, or see that the clock and the trusted authorities are right."),
    _rule("name_resolution_failure", "name_resolution", _because("a name cannot be resolved (DNS)"), 0.88,
          "See that the name is right and the resolver answers (resolvectl query).", if_it_passes),
    _rule("missing_library", "missing_library", _because("a library or module that it needs is missing"), 0.92,
          "Install what it names."),
    _rule("config_syntax", "config_syntax", _because("its configuration has an error"), 0.88,
          "Correct what it names; many programs can check their configuration before they are started."),
    _rule("already_running", "already_running", _because("another one of it seems to be running"), 0.8,
          "End the other one, or remove the stale lock or PID file that it names."),
    _rule("permission_denied", "permission_denied", _permission, 0.9,
          "Give the unit's user what it needs (chown, chmod, a group), or let it run as somebody else."),
    _rule("connection_refused", "connection_refused", _because("what it connects to does not listen"), 0.8,
          "See that the other side runs, and order this one after it.", if_it_passes),
    _rule("unreachable", "unreachable", _because("what it connects to cannot be reached"), 0.8,
          "See that the network is up (After=network-online.target) and the route right.", if_it_passes),
    _rule("timed_out", "timed_out", _because("what it waits for does not answer"), 0.75,
          "See that the other side runs and is not overloaded.", if_it_passes),
    _rule("io_error", "io_error", _because("a disk or device does not work (I/O error)"), 0.88,
          "Look at the disk at once (smartctl -a, dmesg), and at the backups."),
    _rule("missing_file", "missing_file", _missing_file, 0.82, "Put it there, or correct the path.", if_it_passes),
    Rule("segfault", lambda e: e.holds("is_about_errors") and e.text("trouble") == "segfault",
         lambda e: f"A program crashed: {e.text('trouble_line')}", 0.85,
         cure="coredumpctl list tells which, where cores are kept."),
)  # fmt: skip
