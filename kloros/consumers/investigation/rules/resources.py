"""What uses up a disk, the CPUs, the memory, or file descriptors. Pure."""

from __future__ import annotations

from collections.abc import Callable

from kloros.consumers.investigation.evidence import Evidence, lasting, size
from kloros.consumers.investigation.rule import Rule
from kloros.consumers.investigation.rules.helps import pause_entry, prune_history, raise_limit, vacuum_journal

_ROOM_AGAIN_PERCENT = 85.0
_MUCH = 0.3
_MOST_OF_IT = 0.4
_MUCH_OF_IT, _CLEARLY_MORE = 0.25, 1.8
_COMMAND_CHARS = 60
# Of all memory: who holds so much is worth naming, also when there is enough again.
_LARGE = 0.1
_NAMES = {"cpu": "CPU time", "memory": "memory", "io": "disk traffic"}


def _is_disk(evidence: Evidence) -> bool:
    return evidence.holds("mount") and not evidence.holds("is_about_inodes")


def _is_inodes(evidence: Evidence) -> bool:
    return evidence.holds("is_about_inodes")


def _has_room_again(evidence: Evidence) -> bool:
    if not evidence.holds("mount") or not evidence.holds("used_bytes"):
        return False
    percent = evidence.number("inodes_percent" if _is_inodes(evidence) else "used_percent")
    return percent < _ROOM_AGAIN_PERCENT


def _disk(evidence: Evidence) -> str:
    mount, percent = evidence.text("mount"), evidence.number("used_percent")
    parts = [f"{mount} is {percent:.0f} % full"]
    if evidence.holds("grown_path"):
        grew, ago = size(evidence.number("grown_bytes")), lasting(evidence.number("grown_s"))
        parts.append(f"{evidence.text('grown_path')} grew by {grew} since the look {ago} ago")
    if evidence.holds("top_path") and evidence.text("top_path") != mount:
        parts.append(f"most of it is in {evidence.text('top_path')} ({size(evidence.number('top_bytes'))})")
    if evidence.number("top_file_bytes") >= _MUCH * evidence.number("used_bytes"):
        parts.append(f"the largest file is {evidence.text('top_file')} ({size(evidence.number('top_file_bytes'))})")
    if evidence.number("hidden_bytes") >= _MUCH * evidence.number("used_bytes"):
        parts.append(f"{size(evidence.number('hidden_bytes'))} are in what could not be seen")
    return f"{parts[0]}: {'; '.join(parts[1:])}." if len(parts) > 1 else f"{parts[0]}."


def _inodes(evidence: Evidence) -> str:
    mount = evidence.text("mount")
    left = f"{evidence.count('inodes_free')} inodes left"
    if not evidence.holds("crowded_path"):
        return f"{mount} has {left}; which directory holds so many files could not be seen."
    return (
        f"{mount} has {left}: very many small files, most of them in {evidence.text('crowded_path')} "
        f"({evidence.count('crowded_count')} entries)."
    )


_DISK = (
    Rule(
        "room_again", _has_room_again,
        lambda e: f"{e.text('mount')} has room again: "
        + (f"{e.number('inodes_percent'):.0f} % of its inodes are used." if _is_inodes(e)
           else f"it is {e.number('used_percent'):.0f} % full."), 0.9,
    ),
    Rule(
        "inodes_exhausted", lambda e: _is_inodes(e) and e.holds("used_bytes"), _inodes, 0.9,
        cure="Remove what is old in {crowded_path}, and see who makes so many files there.",
    ),
    Rule(
        "disk_full_of_journal", lambda e: _is_disk(e) and e.holds("journal_bytes")
        and e.number("journal_bytes") >= _MUCH * e.number("used_bytes"),
        lambda e: f"{e.text('mount')} is {e.number('used_percent'):.0f} % full, and the journal takes "
        f"{size(e.number('journal_bytes'))} of it.", 0.92, vacuum_journal,
        "journalctl --vacuum-size=, and SystemMaxUse= in journald.conf.",
    ),
    Rule(
        "disk_full_of_history", lambda e: _is_disk(e) and e.holds("history_bytes")
        and e.number("history_bytes") >= _MUCH * e.number("used_bytes"),
        lambda e: f"{e.text('mount')} is {e.number('used_percent'):.0f} % full, and this suite's own history takes "
        f"{size(e.number('history_bytes'))} of it.", 0.92, prune_history,
        "Lower max_size_mib in chembus_historian_config.toml.",
    ),
    Rule(
        "disk_full_of_deleted_files", lambda e: _is_disk(e) and e.holds("deleted_bytes")
        and e.number("deleted_bytes") >= _MUCH * e.number("used_bytes"),
        lambda e: f"{e.text('mount')} is full, and {size(e.number('deleted_bytes'))} of it are deleted files that are "
        f"still held open, most by {e.text('deleted_by')}: {e.text('deleted_path')}.", 0.9,
        cure="Restart what holds them open, or let it open its files anew.",
    ),
    Rule(
        "disk_full", lambda e: _is_disk(e) and e.holds("used_bytes"), _disk, 0.85,
        cure="Remove or move what is not needed in {top_path}; see who writes there.",
    ),
)  # fmt: skip


def _is_hog(resource: str) -> Callable[[Evidence], bool]:
    """Whether somebody takes most of it, or much and clearly more than anybody else."""

    def fits(evidence: Evidence) -> bool:
        share = evidence.number("top_share")
        leads = share >= _MUCH_OF_IT and share >= _CLEARLY_MORE * evidence.number("next_share")
        return evidence.text("resource") == resource and (share >= _MOST_OF_IT or leads)

    return fits


def _shortly(command: str) -> str:
    return command if len(command) <= _COMMAND_CHARS else command[: _COMMAND_CHARS - 1] + "…"


def _cpu(evidence: Evidence) -> str:
    return (
        f"{evidence.text('top_name')} keeps the CPUs busy: it uses {evidence.number('top_cores'):.1f} of "
        f"{evidence.count('cores')}, which is {evidence.number('top_share'):.0%} of what is used "
        f"(busiest process: pid {evidence.count('top_pid')}, {_shortly(evidence.text('top_command'))})."
    )


def _memory(evidence: Evidence) -> str:
    swap = " Swap is used up too." if evidence.holds("is_swap") else ""
    return (
        f"{evidence.text('top_name')} holds {size(evidence.number('top_bytes'))} of memory, "
        f"{evidence.number('top_share'):.0%} of what is used "
        f"(largest process: pid {evidence.count('top_pid')}, {_shortly(evidence.text('top_command'))}).{swap}"
    )


def _io(evidence: Evidence) -> str:
    rate = (
        f"reads and writes {size(evidence.number('top_io'))}/s"
        if evidence.holds("top_io")
        else "waits for the disks most"
    )
    return (
        f"{evidence.text('top_name')} {rate}, {evidence.number('top_share'):.0%} of all "
        f"(busiest process: pid {evidence.count('top_pid')}, {_shortly(evidence.text('top_command'))})."
    )


def _passed(evidence: Evidence) -> bool:
    """Nobody waits for it now: what was there is over."""
    resource = evidence.text("resource")
    if resource == "memory" and evidence.number("total_bytes"):
        plenty = evidence.number("available_bytes") >= 0.2 * evidence.number("total_bytes")
        return plenty and evidence.number("some_avg10") < 5
    return bool(resource) and "some_avg10" in evidence.seen and evidence.number("some_avg10") < 5


_LOAD = (
    Rule(
        "pressure_passed", lambda e: _passed(e) and not _is_large_hog(e),
        lambda e: f"There is enough {_NAMES[e.text('resource')]} again; who took it is not to be seen any more.", 0.6,
    ),
    Rule("cpu_hog", _is_hog("cpu"), _cpu, 0.9, pause_entry,
         "Stop it, give it CPUQuota= or a lower CPUWeight=, or the machine more CPUs."),
    Rule("memory_hog", _is_hog("memory"), _memory, 0.88, pause_entry,
         "Stop it, or give it a MemoryMax=; if it needs that much, the machine needs more."),
    Rule("io_hog", _is_hog("io"), _io, 0.85, pause_entry,
         "Let it work at another time, or give it IOWeight= or a bandwidth limit."),
    Rule(
        "many_users", lambda e: e.holds("resource") and e.holds("top_name"),
        lambda e: f"No single program takes most of the {_NAMES[e.text('resource')]}: there is more to do than the "
        f"machine can. The largest part has {e.text('top_name')} ({e.number('top_share'):.0%}).", 0.6,
        cure="Spread the work over time, or give the machine more.",
    ),
)  # fmt: skip


def _is_large_hog(evidence: Evidence) -> bool:
    """Somebody who takes most of it, and much, is to be named even when nobody waits for the moment."""
    if evidence.text("resource") == "memory":
        return _is_hog("memory")(evidence) and evidence.number("top_bytes") >= _LARGE * evidence.number("total_bytes")
    return evidence.text("resource") == "cpu" and evidence.number("top_cores") >= 0.5 * max(1, evidence.count("cores"))


def _files(evidence: Evidence) -> str:
    what = f", most of them {evidence.text('top_kind')}" if evidence.holds("top_kind") else ""
    unit = f" of {evidence.text('top_unit')}" if evidence.holds("top_unit") else ""
    count = (
        f"{evidence.count('open_files')} files open" if evidence.holds("open_files") else "nearly as many files open"
    )
    limit = f" of at most {evidence.count('files_limit')}" if evidence.holds("files_limit") else " as it may"
    return f"{evidence.text('top_name')}{unit} has {count}{limit}{what}."


_FILES = (
    Rule("files_closed", lambda e: e.holds("is_about_files") and e.holds("is_gone"),
         "{top_name} has ended, and its files are closed.", 0.9),
    Rule(
        "many_open_files", lambda e: e.holds("is_about_files") and e.holds("is_one_process"), _files, 0.8,
        lambda e: raise_limit("LimitNOFILE")(e) if e.text("unit").endswith(".service") else None,
        "See whether it forgets to close what it opens; if it needs that many, raise LimitNOFILE=.",
    ),
    Rule(
        "machine_files", lambda e: e.holds("is_about_files") and e.holds("top_name"),
        "The machine has nearly as many files open as it may; of those to be seen {top_name} has most: {open_files}.",
        0.6, cure="Restart what forgets to close its files, or raise fs.file-max.",
    ),
)  # fmt: skip

RESOURCES = (*_DISK, *_LOAD, *_FILES)
