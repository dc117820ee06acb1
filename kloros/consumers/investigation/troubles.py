"""Troubles that programs name in their own words, found in their last lines. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple


class Trouble(NamedTuple):
    """A known trouble and the line that names it. passes: whether it may be over by itself in a while."""

    kind: str
    line: str
    passes: bool = False


_PASSING = {"connection_refused", "unreachable", "timed_out", "name_resolution", "busy"}
# The first that fits a line wins: the more exact stand above the more general.
_SIGNS: dict[str, tuple[str, ...]] = {
    "address_in_use": (
        r"address (?:is )?already in use", r"\bEADDRINUSE\b", r"port \d+ is already (?:in use|allocated)",
    ),
    "no_space": (
        r"no space left on device", r"\bENOSPC\b", r"database or disk is full", r"disk quota exceeded",
        r"\bdisk full\b",
    ),
    "read_only": (r"read-only file ?system", r"\bEROFS\b"),
    "machine_files": (r"too many open files in system", r"\bENFILE\b"),
    "too_many_files": (r"too many open files", r"\bEMFILE\b"),
    "no_threads": (
        r"can't start new thread", r"unable to create (?:new )?(?:native )?thread", r"fork: retry",
        r"fork\b.*resource temporarily unavailable", r"pthread_create.*failed",
    ),
    "no_memory": (
        r"cannot allocate memory", r"\bMemoryError\b", r"\bENOMEM\b", r"std::bad_alloc", r"OutOfMemoryError",
        r"memory exhausted", r"\bout of memory\b",
    ),
    "certificate": (
        r"certificate (?:has )?expired", r"certificate verify failed", r"CERTIFICATE_VERIFY_FAILED", r"x509: ",
        r"certificate (?:is )?not (?:yet )?(?:valid|trusted)", r"self[- ]signed certificate", r"SSL_ERROR_\w+",
        r"tls: (?:bad|expired|unknown) certificate",
    ),
    "name_resolution": (
        r"temporary failure in name resolution", r"name or service not known", r"could not resolve",
        r"getaddrinfo (?:failed|EAI_AGAIN|ENOTFOUND)", r"\bNXDOMAIN\b", r"no such host", r"unknown host",
        r"nodename nor servname",
    ),
    "missing_library": (
        r"error while loading shared libraries", r"cannot open shared object file", r"ModuleNotFoundError",
        r"\bImportError\b", r"No module named", r"Cannot find module", r"ClassNotFoundException",
    ),
    "config_syntax": (
        r"\bsyntax error\b", r"\bparse error\b", r"error parsing", r"(?:failed to|could not|cannot) parse",
        r"invalid (?:configuration|config|directive|option)", r"unknown (?:directive|option|key|setting)",
        r"configuration (?:file )?(?:error|test failed|is invalid)", r"bad configuration", r"config error",
        r"TOMLDecodeError", r"JSONDecodeError", r"YAMLException", r"yaml\.\w+Error", r"MissingSectionHeaderError",
        r"unexpected (?:token|end of file|character)", r"unrecognized (?:option|arguments?)",
    ),
    "already_running": (
        r"already running", r"another instance", r"pid ?file .*exists", r"could not (?:get|acquire) .*lock",
        r"database is locked",
    ),
    "permission_denied": (
        r"permission denied", r"\bEACCES\b", r"operation not permitted", r"\bEPERM\b", r"access denied",
        r"PermissionError",
    ),
    "connection_refused": (r"connection refused", r"\bECONNREFUSED\b"),
    "unreachable": (
        r"no route to host", r"network is unreachable", r"host is (?:down|unreachable)", r"\bEHOSTUNREACH\b",
    ),
    "timed_out": (
        r"connection timed out", r"operation timed out", r"\bETIMEDOUT\b", r"timeout expired", r"deadline exceeded",
    ),
    "busy": (r"resource temporarily unavailable", r"device or resource busy", r"\bEAGAIN\b", r"try again later"),
    "io_error": (r"input/output error", r"\bEIO\b", r"I/O error, dev", r"buffer I/O error", r"medium error"),
    "segfault": (r"segfault at", r"segmentation fault", r"general protection fault", r"core dumped"),
    "missing_file": (r"no such file or directory", r"\bENOENT\b", r"FileNotFoundError"),
}  # fmt: skip
_PATTERNS = {kind: re.compile("|".join(signs), re.IGNORECASE) for kind, signs in _SIGNS.items()}
_TELLING = re.compile(
    r"\b(?:error|fail(?:ed|ure)?|fatal|exception|panic|critical|abort(?:ed|ing)?|cannot|could not)\b", re.I
)
_PATH = re.compile(r"(?<![\w/.])(/[^\s'\"`:,;()\[\]<>]+)")
_PORT = re.compile(r"(?:\bport[ :=]+|[\])\w.*:]:)(\d{2,5})\b")


def trouble_in(line: str) -> Trouble | None:
    """The trouble that a line names."""
    for kind, pattern in _PATTERNS.items():
        if pattern.search(line):
            return Trouble(kind, line, kind in _PASSING)
    return None


def last_trouble(lines: Sequence[str]) -> Trouble | None:
    """The one that was named last: what comes last is what it died of."""
    return next((trouble for line in reversed(lines) if (trouble := trouble_in(line))), None)


def telling_line(lines: Sequence[str]) -> str:
    """The line that most likely says why: the last that speaks of an error, else the last one."""
    return next((line for line in reversed(lines) if _TELLING.search(line)), lines[-1] if lines else "")


def path_in(line: str) -> str | None:
    """The path that a line speaks of; the last one, as in `cp: /a: cannot write to /b`."""
    found = _PATH.findall(line)
    return found[-1].rstrip(".") if found else None


def port_in(line: str) -> int | None:
    """The port that a line speaks of."""
    found = [int(port) for port in _PORT.findall(line) if 0 < int(port) < 65_536]
    return found[-1] if found else None


def ports_among(words: Sequence[str]) -> list[int]:
    """Numbers in a command line that may be ports: `8080`, `--listen=:8080`, `0.0.0.0:8080`."""
    found: list[int] = []
    for word in words:
        match = re.search(r"(?:^|[:=])(\d{2,5})$", word)
        if match and 0 < int(match[1]) < 65_536 and int(match[1]) not in found:
            found.append(int(match[1]))
    return found
