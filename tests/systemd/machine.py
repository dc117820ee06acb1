"""A booted systemd to test in: systemd-nspawn over an overlay of the running root file system, all of it in memory.

The host is never written to: every change lands in a tmpfs that goes with the machine. A machine can be booted on top
of another's files (`base`), so the suite is installed once and each test module gets a fresh copy in half a second.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.systemd import cgroups
from tests.systemd.system import Result, System, wait_for

CHECKOUT = Path(__file__).parents[2]
CHECKOUT_INSIDE = "/srv/kloros-checkout"
WHEELS_INSIDE = "/srv/kloros-wheels"
PREFIX = "kloros-machine-"
NAME = "name"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/root"}


@dataclasses.dataclass(frozen=True)
class Files:
    """Where one machine's overlay lives: a tmpfs holding what it wrote."""

    directory: Path

    @property
    def written(self) -> Path:
        return self.directory / "written"

    @property
    def root(self) -> Path:
        return self.directory / "root"


class Machine(System):
    """One booted machine. `run` is root's shell in it; `/tmp` inside is fresh and `/run` too."""

    def __init__(
        self,
        binds: dict[Path, str],
        base: Files | None = None,
        *,
        disks: dict[Path, str] | None = None,
        kernel_log: bool = False,
    ) -> None:
        """Mount and boot.

        binds: host directory -> where it appears inside, read-only. base: files of a stopped machine to start from.
        disks: file systems mounted on the host -> where they appear inside, to be written to. kernel_log: the kernel's
        messages, which are the host's, come into the machine's journal, as on hardware.
        """
        self.name = f"kloros-{uuid.uuid4().hex[:12]}"
        self.files = Files(Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir="/var/tmp")))
        self._layers = [self.files.written, *([base.written] if base else [])]
        self._cgroups = cgroups.make(self.name)
        self._binds, self._disks, self._kernel_log = binds, disks or {}, kernel_log
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        try:
            self._mount(base)
            self._boot()
        except BaseException:
            self.destroy()
            raise

    def _mount(self, base: Files | None) -> None:
        directory = self.files.directory
        _host("mount", "-t", "tmpfs", "-o", "mode=755", self.name, str(directory))
        (directory / NAME).write_text(self.name)
        for part in (self.files.written, self.files.root, directory / "work"):
            part.mkdir()
        lower = "/" if base is None else f"{base.written}:/"
        options = f"lowerdir={lower},upperdir={self.files.written},workdir={directory / 'work'}"
        _host("mount", "-t", "overlay", self.name, "-o", options, str(self.files.root))
        machine_id = self.files.root / "etc/machine-id"
        machine_id.unlink(missing_ok=True)
        machine_id.write_text(uuid.uuid4().hex + "\n")

    def _boot(self) -> None:
        command = ["setpriv", "--pdeathsig", "KILL", "systemd-nspawn", "--quiet", "--directory", str(self.files.root)]
        command += ["--machine", self.name, "--register=no", "--console=pipe", "--private-network"]
        command += [] if cgroups.BOOTED_WITH_SYSTEMD.is_dir() else ["--keep-unit"]
        command += ["--system-call-filter=adjtimex clock_adjtime"]  # nspawn refuses them, a real machine does not
        command += [f"--bind-ro={host}:{inside}" for host, inside in self._binds.items()]
        command += [f"--bind={host}:{inside}" for host, inside in self._disks.items()]
        command += cgroups.hand_over(self._cgroups)
        command += self._let_journald_hear_the_kernel() if self._kernel_log else []
        command += ["--boot", "systemd.unit=basic.target", "systemd.mask=systemd-logind.service"]
        console = (self.files.directory / "console.log").open("wb")
        with console:
            self._nspawn = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: cgroups.enter(self._cgroups),
            )
        wait_for(self._is_up, 30, "the machine to boot")

    def _let_journald_hear_the_kernel(self) -> list[str]:
        """Options for nspawn; in a container journald does not ask for the kernel's log by itself."""
        settings = self.files.root / "etc/systemd/journald.conf.d/hear-the-kernel.conf"
        settings.parent.mkdir(parents=True)
        settings.write_text("[Journal]\nReadKMsg=yes\n")
        return ["--bind=/dev/kmsg", "--capability=CAP_SYSLOG"]

    def _find_leader(self) -> int:
        assert self._nspawn is not None
        if self._nspawn.poll() is not None:
            raise RuntimeError("systemd-nspawn ended: " + (self.files.directory / "console.log").read_text())
        found = subprocess.run(["pgrep", "-P", str(self._nspawn.pid)], capture_output=True, text=True, check=False)
        return int(found.stdout.split()[0]) if found.stdout.strip() else 0

    def _is_up(self) -> bool:
        self._leader = self._find_leader()  # anew each time: nspawn's first child is only the midwife
        if not self._leader:
            return False
        return self.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded")

    def start(self, *command: str, **popen: Any) -> subprocess.Popen[str]:
        """Start a command inside and return at once."""
        enter = ["nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-p", "-n", "-C"]
        return subprocess.Popen([*enter, *command], env=ENVIRONMENT, text=True, **popen)

    def execute(self, command: tuple[str, ...], stdin: str, limit_s: float) -> Result:
        piped = subprocess.PIPE
        with self.start(*command, stdin=piped, stdout=piped, stderr=piped) as process:
            try:
                out, err = process.communicate(stdin, timeout=limit_s)
            except BaseException:
                process.kill()
                raise
        return Result(command, process.returncode, out, err)

    def new_files(self) -> set[str]:
        """What is in this machine's file system, /tmp and /run aside, and was not there before anything was done."""
        touched = {str(path.relative_to(layer)) for layer in self._layers for path in layer.rglob("*")}
        return {
            f"/{path}"
            for path in touched
            if os.path.lexists(self.files.root / path) and not os.path.lexists(f"/{path}")
        }

    def stop(self) -> Files:
        """End every process, keep the files (to boot others on top, until `destroy`)."""
        if self._nspawn is not None:
            with contextlib.suppress(ProcessLookupError):
                if self._leader:
                    os.kill(self._leader, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._nspawn.wait(10)
            self._nspawn.kill()
            self._nspawn.wait()
            self._nspawn = None
        return self.files

    def destroy(self) -> None:
        """End every process and leave no mount and no file behind."""
        self.stop()
        remove_files(self.files.directory)
        cgroups.remove(self._cgroups)


def remove_files(directory: Path) -> None:
    for mounted in (directory / "root", directory):
        while os.path.ismount(mounted):
            if subprocess.run(["umount", str(mounted)], capture_output=True, check=False).returncode:
                _host("umount", "--lazy", str(mounted))
    shutil.rmtree(directory, ignore_errors=True)


def sweep() -> None:
    """End what a killed test run left running, remove what it left mounted.

    Several may sweep at once: the others then wait for the first.
    """
    with Path("/var/tmp/kloros-sweep.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for directory in Path("/var/tmp").glob(f"{PREFIX}*"):
            owner = directory.name.removeprefix(PREFIX).split("-")[0]
            if not Path(f"/proc/{owner}").exists():
                if (directory / NAME).exists():
                    cgroups.end(cgroups.left_over((directory / NAME).read_text()))
                remove_files(directory)


def _host(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


@contextlib.contextmanager
def booted(binds: dict[Path, str], base: Files | None = None, **options: Any) -> Iterator[Machine]:
    machine = Machine(binds, base, **options)
    try:
        yield machine
    finally:
        machine.destroy()
