"""A booted system with a kernel of its own: a clock that may be set, and what a container's kernel does not give.

QEMU runs Debian's kernel, in software, over the running root file system (by 9P, read-only) with a tmpfs on top. It is
some ten times slower than the computer it runs on.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from tests.systemd.machine import PREFIX, Files, remove_files
from tests.systemd.system import Result, System, wait_for

BUSYBOX = Path("/bin/busybox")
MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
NEEDED = ("qemu-system-x86", "linux-image-amd64", "busybox-static")
LINES = "/dev/virtio-ports/lines"
BOOT_LIMIT_S = 120
MEMORY_MIB = 3072

# Runs before systemd: puts the root together and goes.
INIT = """#!/bin/sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module"; done < /modules/order
for each in host installed settings; do
    mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=512000,cache=loose "$each" "/$each"
done
mount -t tmpfs tmpfs /written
mkdir /written/upper /written/work
mount -t overlay root -o lowerdir=/settings:/installed:/host,upperdir=/written/upper,workdir=/written/work /root
rm -f /root/.dockerenv  # systemd would take it for a container
for each in proc sys dev; do mount --move "/$each" "/root/$each"; done
exec switch_root /root /lib/systemd/systemd
"""
# Runs what it is told on one line and answers with one.
AGENT = """
import json, os, subprocess

port = os.open("/dev/virtio-ports/commands", os.O_RDWR)
with os.fdopen(port, "rb") as orders, os.fdopen(os.dup(port), "wb") as answers:
    for line in orders:
        command, stdin = json.loads(line)
        done = subprocess.run(command, input=stdin, capture_output=True, text=True)
        answers.write(json.dumps([done.returncode, done.stdout, done.stderr]).encode() + b"\\n")
        answers.flush()
"""
AGENT_UNIT = """
[Unit]
DefaultDependencies=no
After=dev-virtio\\x2dports-commands.device
Requires=dev-virtio\\x2dports-commands.device

[Service]
ExecStart=/usr/bin/python3 /etc/agent.py
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME=/root
"""


def what_is_missing() -> str | None:
    """Why none can be booted here."""
    if platform.machine() == "x86_64" and shutil.which("qemu-system-x86_64") and BUSYBOX.exists() and _kernel():
        return None
    return f"needs QEMU and a kernel to run in it (Debian, x86_64: apt install {' '.join(NEEDED)})"


class OwnKernel(System):
    """One booted system; what it writes is gone with it, but for what it wrote to `disk`.

    `lines` is what its processes wrote to LINES; it ends when the machine does.
    """

    def __init__(self, base: Files, disk: Path | None = None) -> None:
        """Boot on top of the files of a stopped machine. disk: the content of a disk, /dev/vda inside."""
        self._directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir="/var/tmp"))
        self._console = self._directory / "console.log"
        self._qemu: subprocess.Popen[bytes] | None = None
        self._port, self._lines = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        self._answers = b""
        try:
            self._write_settings()
            self._qemu = self._start(base, disk)
            for name, port in (("lines", self._lines), ("commands", self._port)):
                wait_for((self._directory / name).exists, 10, "QEMU to start")
                port.connect(str(self._directory / name))
            self.lines = self._lines.makefile()
            self.run("true", limit_s=BOOT_LIMIT_S)
        except BaseException:
            self.close()
            raise

    def execute(self, command: tuple[str, ...], stdin: str, limit_s: float) -> Result:
        self._port.settimeout(limit_s)
        try:
            self._port.sendall(json.dumps([command, stdin]).encode() + b"\n")
            while b"\n" not in self._answers:
                if not (part := self._port.recv(1 << 16)):
                    raise ConnectionError("it is gone")
                self._answers += part
        except OSError as error:
            raise RuntimeError(f"{' '.join(command)}: {error}; the console says:\n{self._said()}") from error
        answer, self._answers = self._answers.split(b"\n", 1)
        return Result(command, *json.loads(answer))

    def cut_power(self) -> None:
        """End it at once. What its kernel had not yet given to the disk is lost."""
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()

    def close(self) -> None:
        """End it and leave nothing behind."""
        self.cut_power()
        self._port.close()
        self._lines.close()
        remove_files(self._directory)

    def _write_settings(self) -> None:
        """A layer between the files and what is written: no disk but memory, nobody to set the clock, the agent."""
        etc = self._directory / "settings/etc"
        units = etc / "systemd/system"
        units.mkdir(parents=True)
        (etc / "fstab").write_text("tmpfs /tmp tmpfs\ntmpfs /var/tmp tmpfs\n")
        (etc / "machine-id").write_text("uninitialized\n")
        (etc / "agent.py").write_text(AGENT)
        (units / "agent.service").write_text(AGENT_UNIT)
        for unit in ("systemd-timesyncd.service", "systemd-logind.service"):
            (units / unit).symlink_to("/dev/null")

    def _start(self, base: Files, disk: Path | None) -> subprocess.Popen[bytes]:
        append = "console=ttyS0 quiet panic=-1 systemd.show_status=no"
        append += " systemd.unit=basic.target systemd.wants=agent.service"
        command = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"]
        command += ["-nodefaults", "-no-reboot", "-display", "none"]
        command += ["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", str(MEMORY_MIB)]
        command += ["-kernel", str(_kernel()), "-initrd", str(self._make_initrd()), "-append", append]
        for tag, path in {"host": "/", "installed": base.written, "settings": self._directory / "settings"}.items():
            shared = f"local,path={path},mount_tag={tag},security_model=none,readonly=on,multidevs=remap"
            command += ["-virtfs", shared]
        command += ["-serial", f"file:{self._console}", "-device", "virtio-serial", "-rtc", "base=utc"]
        command += ["-drive", f"file={disk},format=raw,if=virtio"] if disk else []
        for name in ("commands", "lines"):
            command += ["-chardev", f"socket,id={name},path={self._directory / name},server=on,wait=off"]
            command += ["-device", f"virtserialport,chardev={name},name={name}"]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def _make_initrd(self) -> Path:
        tree, made = self._directory / "initrd", self._directory / "initrd.img"
        for name in ("bin", "modules", "proc", "sys", "dev", "host", "installed", "settings", "written", "root"):
            (tree / name).mkdir(parents=True)
        shutil.copy(BUSYBOX, tree / "bin/busybox")
        (tree / "bin/sh").symlink_to("busybox")
        modules = list(dict.fromkeys(path for module in MODULES for path in _with_its_own(module)))
        for path in modules:
            shutil.copy(path, tree / "modules")
        (tree / "modules/order").write_text("".join(f"{path.name}\n" for path in modules))
        (tree / "init").write_text(INIT)
        (tree / "init").chmod(0o755)
        with made.open("wb") as image:
            archive = f"cd {tree} && find . | {BUSYBOX} cpio -o -H newc"
            subprocess.run(["sh", "-c", archive], stdout=image, stderr=subprocess.DEVNULL, check=True)
        return made

    def _said(self) -> str:
        return self._console.read_text(errors="replace")[-3000:]


def _kernel() -> Path | None:
    """The newest kernel that knows 9P."""
    kernels = sorted(Path("/boot").glob("vmlinuz-*"))
    return next((kernel for kernel in reversed(kernels) if any(_modules_of(kernel).rglob("9p.ko*"))), None)


def _modules_of(kernel: Path) -> Path:
    return Path("/lib/modules") / kernel.name.removeprefix("vmlinuz-")


def _with_its_own(module: str) -> list[Path]:
    """The files of a module and of those it needs, in the order to load them."""
    kernel = _kernel()
    assert kernel
    command = ["modprobe", "--set-version", _modules_of(kernel).name, "--show-depends", module]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [Path(line.split()[1]) for line in shown.splitlines() if line.startswith("insmod")]
