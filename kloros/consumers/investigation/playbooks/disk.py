"""A disk that is full, or out of inodes: what fills it, and what grew."""

from __future__ import annotations

import os
from pathlib import Path

from kloros.chembus.facts_work import QuestionFacts
from kloros.consumers.investigation.evidence import Evidence, counted, lasting, size
from kloros.consumers.investigation.samples import MAX_DIRECTORIES, Sample, Samples, growth, telling_directory
from kloros.consumers.investigation.settings import DiskSettings
from kloros.machine.deadline import Deadline
from kloros.machine.disk_usage import Usage, walk
from kloros.machine.open_files import deleted_files
from kloros.machine.whole import Machine
from kloros.units import us_to_seconds

_TYPES = ("disk_full", "inodes_exhausted")
_FRESH_S = 3_600.0
_SHOWN = 4
_SHARE_OF_TIME = 0.7
_HIDDEN = 0.1
_CROWD = 100
JOURNAL = (Path("/var/log/journal"), Path("/run/log/journal"))


class DiskInvestigator:
    """Answers for `disk_full` and `inodes_exhausted`."""

    name = "disk"

    def __init__(self, settings: DiskSettings, samples: Samples, history: Path, journal: tuple[Path, ...] = JOURNAL):
        self._settings, self._samples, self._history, self._journal = settings, samples, history, journal

    def handles(self, question: QuestionFacts) -> float:
        return 1.0 if question.gap_type in _TYPES else 0.0

    def gather(self, question: QuestionFacts, machine: Machine, deadline: Deadline) -> Evidence:
        mount = Path(question.gap_name or "/")
        evidence = Evidence(playbook=self.name, subject=str(mount))
        evidence.saw(mount=str(mount), is_about_inodes=question.gap_type == "inodes_exhausted" or None)
        try:
            _tell_room(evidence, os.statvfs(mount))
            within = Deadline(machine.clock, min(self._settings.max_s, _SHARE_OF_TIME * deadline.remaining_s))
            now_us = machine.clock.wall_us()
            usage = walk(mount, within, self._settings.max_entries, us_to_seconds(now_us) - _FRESH_S)
            device = mount.stat().st_dev
        except OSError as error:
            evidence.lack(f"{mount} ({error.strerror})")
            return evidence
        self._tell_growth(evidence, usage, now_us)
        _tell_usage(evidence, usage)
        self._tell_known(evidence, device, deadline)
        _tell_deleted(evidence, machine, device, deadline)
        _tell_hidden(evidence, usage)
        return evidence

    def _tell_growth(self, evidence: Evidence, usage: Usage, now_us: int) -> None:
        sizes = dict(usage.directories[:MAX_DIRECTORIES])
        before = self._samples.swap(usage.root, Sample(now_us, sizes))
        if before is None:
            return
        grown = growth(before.directories, sizes)
        ago_s = us_to_seconds(now_us - before.taken_us)
        if grown:
            evidence.saw(grown_path=grown[0][0], grown_bytes=grown[0][1], grown_s=ago_s)
        for path, by in grown[:2]:
            evidence.note(f"{path} grew by {size(by)} since the last look, {lasting(ago_s)} ago")

    def _tell_known(self, evidence: Evidence, device: int, deadline: Deadline) -> None:
        """Two that we know how to make smaller: the journal, and our own history."""
        journal = sum(_bytes_in(path, device, deadline) for path in self._journal)
        history = _bytes_in(self._history, device, deadline)
        evidence.saw(journal_bytes=journal, history_bytes=history)
        if journal:
            evidence.note(f"the journal takes {size(journal)} of it")
        if history:
            evidence.note(f"the history of this suite takes {size(history)} of it")


def _tell_room(evidence: Evidence, state: os.statvfs_result) -> None:
    used, free = (state.f_blocks - state.f_bfree) * state.f_frsize, state.f_bavail * state.f_frsize
    percent = 100 * used / (used + free) if used + free else 0.0
    evidence.saw(used_bytes=used, free_bytes=free, used_percent=round(percent, 1))
    evidence.note(f"{evidence.subject} is {percent:.1f} % full: {size(used)} used, {size(free)} free")
    if state.f_files:
        taken = state.f_files - state.f_ffree
        share = 100 * taken / state.f_files
        evidence.saw(inodes_used=taken, inodes_free=state.f_favail, inodes_percent=round(share, 1))
        if share >= 80 or evidence.holds("is_about_inodes"):
            evidence.note(f"{taken} of its {state.f_files} inodes are used ({share:.1f} %)")


def _tell_usage(evidence: Evidence, usage: Usage) -> None:
    directory = telling_directory(usage.directories, usage.root)
    evidence.saw(seen_bytes=usage.total_bytes, entries=usage.entries, unseen=usage.unseen, is_whole=usage.is_whole)
    if directory is not None:
        evidence.saw(top_path=directory[0], top_bytes=directory[1])
        evidence.note(f"{directory[0]} holds {size(directory[1])}")
    for path, taken in usage.files[:_SHOWN]:
        if taken >= 0.05 * max(1, usage.total_bytes):
            evidence.note(f"{path}: {size(taken)}")
    if usage.files:
        evidence.saw(top_file=usage.files[0][0], top_file_bytes=usage.files[0][1])
    if usage.fresh and usage.fresh[0][1] >= 0.01 * max(1, usage.total_bytes):
        path, taken = usage.fresh[0]
        evidence.saw(fresh_path=path, fresh_bytes=taken)
        evidence.note(f"the largest file that was changed in the last hour: {path}, {size(taken)}")
    for path, count in usage.crowded[: _SHOWN - 1]:
        if count >= 0.05 * max(1, usage.entries) and (count >= _CROWD or evidence.holds("is_about_inodes")):
            evidence.note(f"{path} has {count} entries")
    if usage.crowded:
        evidence.saw(crowded_path=usage.crowded[0][0], crowded_count=usage.crowded[0][1])
    if usage.unseen:
        evidence.lack(f"{counted(usage.unseen, 'directory', 'directories')} (permission denied)")
    if not usage.is_whole:
        evidence.lack(f"all of it: time was over, or there were too many entries, after {usage.entries}")


def _tell_deleted(evidence: Evidence, machine: Machine, device: int, deadline: Deadline) -> None:
    files, saw_all = deleted_files(machine.proc, device, deadline)
    total = sum(file.size_bytes for file in files)
    evidence.saw(deleted_bytes=total, deleted_unseen=not saw_all)
    if files and total >= 0.01 * evidence.number("used_bytes"):
        worst = files[0]
        evidence.saw(deleted_path=worst.path, deleted_by=f"{worst.name} (pid {worst.pid})")
        evidence.note(
            f"{worst.path} is deleted but held open by {worst.name} (pid {worst.pid}): {size(worst.size_bytes)}"
        )


def _tell_hidden(evidence: Evidence, usage: Usage) -> None:
    """What is used and was not seen in any directory."""
    used = evidence.number("used_bytes")
    hidden = used - usage.total_bytes - evidence.number("deleted_bytes")
    if usage.is_whole and used and hidden > _HIDDEN * used and (usage.unseen or evidence.holds("deleted_unseen")):
        evidence.saw(hidden_bytes=hidden)
        evidence.note(
            f"{size(hidden)} that are used are not in what could be seen (closed directories, deleted open files)"
        )


def _bytes_in(path: Path, device: int, deadline: Deadline) -> int:
    """What a directory holds, if it lies on that device."""
    try:
        if path.stat().st_dev != device:
            return 0
        return walk(path, deadline, 20_000, 0.0).total_bytes
    except OSError:
        return 0
